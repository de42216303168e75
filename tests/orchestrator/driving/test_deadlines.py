"""Deadlines of trials and the pulse of a driver, on a clock that is moved by hand; and the end of a real process."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from orchestrator.driving.deadlines import Deadlines, Watch, end_process
from orchestrator.driving.pulse import ROUND_SECONDS, Pulse
from orchestrator.records.errors import Superseded
from orchestrator.records.store import Store
from orchestrator.storage.files import SharedFolder
from tests.orchestrator.conftest import TEACHER, Clock, Driven, a_study, graph_of

FOLDER = Path("folder")


@pytest.fixture
def ended() -> list[Path]:
    return []


@pytest.fixture
def watch(clock: Clock, ended: list[Path]) -> Watch:
    return Watch(ended.append, Deadlines(start=100, silence=50, epoch=200), clock)


def pass_by(watch: Watch, clock: Clock, seconds: float) -> None:
    """As the driver's loop does: it looks every few seconds."""
    until = clock.seconds + seconds
    while clock.seconds < until:
        clock.seconds = min(until, clock.seconds + 5)
        watch.look()


def test_a_trial_that_never_says_a_word_is_ended_after_the_start_deadline(watch: Watch, clock: Clock, ended: list[Path]) -> None:
    watch.started("ld", FOLDER)
    pass_by(watch, clock, 100)
    assert ended == []
    pass_by(watch, clock, 1)
    watch.look()
    assert ended == [FOLDER]
    assert watch.over("ld") == "no word since its process was started for 101 s (its deadline is 100 s)"


def test_a_trial_that_falls_silent_is_ended_and_one_that_talks_is_not(watch: Watch, clock: Clock, ended: list[Path]) -> None:
    watch.started("ld", FOLDER)
    watch.started("fitnet", Path("another"))
    for _ in range(6):
        watch.heard("fitnet")
        clock.seconds += 10
        watch.look()
    assert ended == []
    watch.heard("ld")
    for seconds in (10, 10, 10, 10, 10, 1):
        watch.heard("fitnet")
        pass_by(watch, clock, seconds)
    assert ended == [FOLDER]
    assert watch.over("ld") == "no sign of life for 51 s (its deadline is 50 s)"
    assert watch.over("fitnet") is None


def test_who_has_been_silent_for_long_before_may_be_so_again(watch: Watch, clock: Clock, ended: list[Path]) -> None:
    watch.started("ld", FOLDER)
    watch.heard("ld")
    clock.seconds += 40
    watch.heard("ld")
    pass_by(watch, clock, 5 * 40)
    assert ended == []
    pass_by(watch, clock, 1)
    assert ended == [FOLDER]


def test_an_epoch_that_never_ends_is_ended_though_it_shows_signs_of_life(watch: Watch, clock: Clock, ended: list[Path]) -> None:
    watch.started("ld", FOLDER)
    watch.heard("ld")
    clock.seconds += 45
    watch.heard("ld", epoch_ended=True)
    while not ended:
        pass_by(watch, clock, 45)
        watch.heard("ld")
    assert watch.over("ld") == "an epoch without an end for 230 s (its deadline is 225 s)"


def test_a_driver_that_was_away_itself_takes_nobodys_silence_for_a_fault(watch: Watch, clock: Clock, ended: list[Path]) -> None:
    """It waited two minutes for a locked database, say; what the trials said meanwhile it hears afterwards."""
    watch.started("ld", FOLDER)
    watch.heard("ld")
    watch.started("fitnet", Path("another"))
    pass_by(watch, clock, 20)
    clock.seconds += 120
    watch.look()
    watch.heard("fitnet")
    pass_by(watch, clock, 30)
    assert ended == []
    pass_by(watch, clock, 1)
    assert ended == [FOLDER]
    assert watch.over("ld") == "no sign of life for 51 s (its deadline is 50 s)"


def test_deadlines_are_stated_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_DEADLINE_SILENCE", "7")
    assert Deadlines.from_environment() == Deadlines(start=1200, silence=7, epoch=1800)


def test_the_process_of_a_folder_is_killed_but_not_another_that_has_its_number(tmp_path: Path) -> None:
    command = "import sys; from pathlib import Path; from orchestrator.driving.deadlines import leave_process\n"
    command += "leave_process(Path(sys.argv[1]), 'node'); print(flush=True); import time; time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", command, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        noted = json.loads((tmp_path / "process.json").read_text())
        (tmp_path / "process.json").write_text(json.dumps(noted | {"created": noted["created"] - 1}))
        end_process(tmp_path, SharedFolder(tmp_path.parent))
        assert psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE
        (tmp_path / "process.json").write_text(json.dumps(noted))
        end_process(tmp_path, SharedFolder(tmp_path.parent))
        assert process.wait() == -9
    end_process(tmp_path, SharedFolder(tmp_path.parent))  # gone by now


def test_the_processes_that_a_trial_has_started_end_with_it_also_one_that_stands_still(tmp_path: Path) -> None:
    command = "import subprocess, sys; from pathlib import Path; from orchestrator.driving.deadlines import leave_process\n"
    command += "loader = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    command += "leave_process(Path(sys.argv[1]), 'node'); print(loader.pid, flush=True); loader.wait()"
    with subprocess.Popen([sys.executable, "-c", command, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        loader = psutil.Process(int(process.stdout.readline()))
        loader.send_signal(signal.SIGSTOP)
        end_process(tmp_path, SharedFolder(tmp_path.parent))
        assert process.wait() == -9
    gone, alive = psutil.wait_procs([loader], timeout=30)
    assert (len(gone), alive) == (1, [])


def test_a_driver_whose_main_loop_stands_still_renews_no_lease(store: Store, driven: Driven, clock: Clock) -> None:
    pulse = Pulse(store, driven.id, 1, clock)
    pulse.beat()
    assert pulse.pass_on()
    clock.seconds += ROUND_SECONDS
    assert store.driver_silence(driven.id, 1) == ROUND_SECONDS
    assert pulse.pass_on()
    assert store.driver_silence(driven.id, 1) == 0
    clock.seconds += 1
    assert not pulse.pass_on()
    assert store.driver_silence(driven.id, 1) == 1


def test_a_driver_whose_attempt_is_over_gives_no_sign_of_life(store: Store, driven: Driven) -> None:
    pulse = Pulse(store, driven.id, 1)
    assert pulse.pass_on()
    store.end_attempt(driven.id, 1, "silent")
    store.forget_driver(driven.id, 1)
    with pytest.raises(Superseded):
        pulse.pass_on()
    assert store.driver_silence(driven.id, 1) is None


def test_drivers_are_no_loops(store: Store) -> None:
    store.beat("jobs")
    store.beat("a loop of an earlier version")
    store.driver_lives(3, 1)
    store.forget_loops(["jobs"])
    assert [beat.name for beat in store.heartbeats()] == ["jobs"]
    assert store.driver_silence(3, 1) == 0


def test_tune_can_write_its_callback_down(driven: Driven) -> None:
    from ray import cloudpickle

    from orchestrator.driving.tuning import Recorder

    recorder = Recorder(graph_of(driven, a_study()), Pulse(driven.store, driven.id, 1))
    recorder.watch.started(TEACHER, FOLDER)
    assert cloudpickle.loads(cloudpickle.dumps(recorder)).watch.over(TEACHER) is None
