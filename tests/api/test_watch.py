"""The live view: a picture of what is known at an instant, and a reader that no restart of the service stops."""

import io
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console, ConsoleDimensions

from api.client import Client, Refused, StreamedEvent
from api.command.watch import Pace, Snapshot, _note, epochs_done, event_line, render, seconds_left, span, watch
from orchestrator.records.store import Store
from tests.api.conftest import SPEC, Driver, LiveService

NOW = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)


def trial(name: str, state: str, epoch: int = 0, **known: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("reason", "latest", "metrics", "seconds"))
    return {
        "name": name,
        "title": name,
        "state": state,
        "epoch": epoch,
        "epochs": 4,
        "teacher": "teacher",
        "role": "distilled",
        **empty,
        **known,
    }


def snapshot(*trials: dict[str, Any], **known: Any) -> Snapshot:
    counts: dict[str, int] = {}
    for one in trials:
        counts[one["state"]] = counts.get(one["state"], 0) + 1
    started = (NOW - timedelta(seconds=90)).isoformat()
    study = {"id": 3, "name": "Digits", "state": "running", "at_rest": False, "reason": None, "mlflow": "http://mlflow/run"}
    return Snapshot({**study, "created": started, "started": started, "finished": None, "trials": counts}, list(trials), **known)


def drawn(view: Snapshot, width: int = 110, height: int = 40) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, legacy_windows=False)
    console.print(render(view, NOW, ConsoleDimensions(width, height)))
    output = console.file
    assert isinstance(output, io.StringIO)
    return [line.rstrip() for line in output.getvalue().splitlines()]


def test_the_head_tells_state_totals_and_where_mlflow_is() -> None:
    lines = drawn(snapshot(trial("a", "finished", 4), trial("b", "cached", 4), trial("c", "running"), trial("d", "failed", reason="nan")))
    assert lines[0] == "study 3  Digits  running"
    assert lines[1] == "2 of 4 trials done, 1 running, 1 cached, 1 failed, 1:30"
    assert lines[2] == "MLflow  http://mlflow/run"


def test_a_line_tells_state_epochs_precision_and_time_left() -> None:
    running = trial("student", "running", 1, latest={"AP": 12.34, "epoch_seconds": 20.0})
    view = snapshot(running, epoch_ended={"student": NOW - timedelta(seconds=5)})
    line = drawn(view)[-1]
    assert line.startswith("student  running  ━")
    assert line.endswith("1/4  AP  12.3  55 s left")


@pytest.mark.parametrize(
    ("one", "end"),
    [
        (trial("a", "running"), "first epoch"),
        (trial("a", "waiting"), "for its teacher"),
        (trial("a", "failed", 2, reason="the loss became NaN"), "the loss became NaN"),
        (trial("a", "cached", 4, metrics={"AP": 40.0}, seconds=50.0), "an equal trial was finished before"),
        (trial("a", "finished", 4, metrics={"AP": 40.0}, seconds=125.0), "2:05"),
    ],
)
def test_a_line_ends_with_what_a_person_asks_next(one: dict[str, Any], end: str) -> None:
    assert drawn(snapshot(one))[-1].endswith(end)


def test_a_narrow_terminal_cuts_only_the_end_of_a_line() -> None:
    failed = trial("teacher: GFL ResNet-34 · seed 0", "failed", 2, reason="x" * 200, latest={"AP": 1.0})
    lines = drawn(snapshot(failed), width=80)
    assert lines[-1].startswith("teacher: GFL ResNet-34 · seed 0  failed  ")
    assert lines[-1].endswith("…")
    assert max(len(line) for line in lines) <= 80


def test_many_trials_show_those_that_run_and_fail_first() -> None:
    trials = [trial(f"t{n}", "finished", 4) for n in range(30)] + [trial("x", "failed", reason="nan"), trial("y", "running")]
    lines = drawn(snapshot(*trials), height=18)
    assert lines[-1] == "... and 22 more"
    assert [line.split()[0] for line in lines[-11:-1]] == [*(f"t{n}" for n in range(22, 30)), "x", "y"]


SIGN = {"epoch": 2, "epochs": 4, "step": 30, "steps": 60, "time": NOW.isoformat()}
INSIDE = {"loss": 1.2345, "lr": 0.02, "images_per_second": 45.67, "data_share": 0.25, "memory": 3.14}


def test_a_sign_of_life_moves_the_bar_and_is_told() -> None:
    running = trial("a", "running", 1)
    view = snapshot(running)
    _note(view, StreamedEvent(7, "step", {"trial": "a", **SIGN, "metrics": INSIDE}))
    assert epochs_done(running, None) == 1.475
    line = drawn(view, width=140)[-1]
    assert line.endswith("first epoch, step 30/60, loss 1.23, lr 0.02, 45.7 images/s, 25% waiting for images, 3.1 GiB")
    running["epoch"] = 2  # that epoch is over
    assert "step" not in drawn(view)[-1]


def test_a_trial_tells_of_its_first_epoch_before_it_is_over(live: LiveService, store: Store) -> None:
    client = Client(live.url, live.token)
    study = client.submit(SPEC)["id"]
    driver = Driver(store, study)
    driver.start()
    driver.begin("student/seed-0")
    sign = {"epoch": 1, "epochs": 2, "step": 30, "steps": 60}
    for step in (30, 40):
        store.record_sign(
            study,
            1,
            "student/seed-0",
            sign | {"step": step, "metrics": INSIDE | {"loss_bbox": float("nan")}},
            driver.fences["student/seed-0"],
        )
    (shown,) = client.trials(study, ["student/seed-0"])
    assert {name: shown["sign"][name] for name in sign} == sign | {"step": 40}
    assert shown["sign"]["metrics"] == INSIDE
    assert (shown["epoch"], shown["epochs"]) == (0, None)
    driver.epoch("student/seed-0", 1, 10.0)
    (shown,) = client.trials(study, ["student/seed-0"])
    assert shown["sign"] is None
    store.request_cancel(study)
    store.stopped(study, 1)
    told = [event for event in client.events(study) if event.kind == "step"]
    assert [event.data["step"] for event in told] == [40]
    line = event_line(told[0], {"student/seed-0": "student"})
    assert line.endswith("student: in epoch 1, step 40/60, loss 1.23, lr 0.02, 45.7 images/s, 25% waiting for images, 3.1 GiB")


def test_a_running_epoch_is_drawn_as_far_as_the_last_one_took_but_never_full() -> None:
    running = trial("a", "running", 1)
    assert epochs_done(running, None) == 1.0
    assert epochs_done(running, Pace(epoch=20.0, since=5.0)) == 1.25
    assert epochs_done(running, Pace(epoch=20.0, since=500.0)) == 1.95
    assert epochs_done(trial("a", "finished", 4), Pace(20.0, 5.0)) == 4.0


def test_time_left_is_told_at_the_pace_of_the_last_epoch() -> None:
    running = trial("a", "running", 1)
    assert seconds_left(running, None) is None
    assert seconds_left(running, Pace(epoch=20.0, since=5.0)) == 55.0
    assert seconds_left(running, Pace(epoch=20.0, since=500.0)) == 40.0
    assert seconds_left(trial("a", "running", 4), Pace(20.0, 5.0)) == 0.0


def test_lengths_of_time_are_short() -> None:
    assert [span(seconds) for seconds in (None, 0.4, 59.4, 60, 3599, 3600 + 62)] == ["", "0 s", "59 s", "1:00", "59:59", "1:01:02"]


@pytest.mark.parametrize("terminal", [True, False])
def test_watching_goes_on_across_a_restart_of_the_service(live: LiveService, store: Store, terminal: bool) -> None:
    client = Client(live.url, live.token)
    client.submit(SPEC)
    driver = Driver(store, 1)
    driver.start()
    first, *others = driver.planned
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=120, height=40)
    ended: list[dict[str, Any]] = []
    watcher = threading.Thread(target=lambda: ended.append(watch(client, 1, console)))
    watcher.start()
    driver.train(first, 40.0)
    while "AP" not in output.getvalue():
        watcher.join(0.05)
    live.stop()
    while "does not answer; asking again" not in output.getvalue():
        watcher.join(0.05)
    for name in others:
        driver.train(name, 41.0)
    store.conclude(1, driver.attempt)
    live.start()
    watcher.join()
    assert ended[0]["state"] == "finished"
    if not terminal:
        lines = output.getvalue().splitlines()
        epochs = [line for line in lines if "epoch" in line]
        assert len(epochs) == len(set(epochs)) == 6
        assert lines[-1].endswith("study finished")


def test_watching_an_unknown_study_is_refused(live: LiveService) -> None:
    with pytest.raises(Refused, match="there is no study '7'"):
        watch(Client(live.url, live.token), 7, Console(file=io.StringIO()))


def test_no_title_and_no_reason_steers_the_terminal() -> None:
    evil = "\x1b]0;owned\x07x\x1b[2J\r\n\x9b31my"
    view = snapshot(trial("a", "failed", reason=evil), note=evil)
    view.study |= {"name": evil, "reason": evil}
    view.trials[0]["title"] = evil
    lines = drawn(view)
    assert lines[0] == "study 3  x y  running: x y"
    assert lines[-1].startswith("x y  failed")
    event = StreamedEvent(1, "trial", {"trial": "a", "state": "failed", "before": "running", "reason": evil, "time": NOW.isoformat()})
    assert event_line(event, {"a": evil}).endswith("  x y: failed, x y")
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for line in lines for char in line)
