"""What nobody needs any more goes; what a finished key, a teacher or a running trial needs never does."""

import os
import threading
from pathlib import Path

import pytest

from orchestrator.garbage.garbage import GONE, Found, Garbage, Kind
from orchestrator.garbage.loop import Collector
from orchestrator.garbage.policy import Policy
from orchestrator.machine import TrialState
from orchestrator.records.store import Store
from orchestrator.settings import Settings
from studies.submission import as_submission
from studies.trial import LAST_STATE
from tests.orchestrator.conftest import ALONE, PUPIL, TEACHER, Clock, Driven, a_study, graph_of, train_next
from workers.folder import alone_in
from workers.training.progress import RESUME

DAY = 24 * 3600.0
FILES = Policy(states=1, folders=2)


def key(name: str) -> str:
    """The folder of a trial here."""
    return f"key-of-{name.replace('/', '-')}"


@pytest.fixture
def driven(store: Store, tmp_path: Path) -> Driven:
    """A study whose driver has just come up; its trials' keys can be names of folders."""

    class WithFolders(Driven):
        def claim(self, name: str, given: str | None = None, reuse: bool = True):  # type: ignore[no-untyped-def]
            return super().claim(name, given or key(name), reuse)

    made = Driven.start(store, tmp_path)
    return WithFolders(store, made.id, tmp_path, made.attempt)


@pytest.fixture
def settings(tmp_path: Path, url: str) -> Settings:
    return Settings(tmp_path, url, "", "", "", "", 1)


@pytest.fixture
def garbage(store: Store, settings: Settings) -> Garbage:
    return Garbage(store, settings, FILES)


def folder_of(settings: Settings, name: str, *files: str, age: float = 0.0, now: float = 0.0) -> Path:
    """A trial's folder as a training leaves it, changed last so many seconds before `now`."""
    folder = settings.trials / name
    folder.mkdir(parents=True)
    for file in ("lock", *(files or ("model.pth", "best.pth", "result.json", RESUME))):
        (folder / file).write_bytes(b"x" * 100)
        os.utime(folder / file, (now - age, now - age))
    return folder


def collected(garbage: Garbage) -> list[Found]:
    return [removed for found in list(garbage.find()) if (removed := garbage.remove(found))]


@pytest.fixture
def over(driven: Driven, settings: Settings) -> Driven:
    """A study whose trials are trained, each with its folder: the teacher, the student alone and the pupil."""
    for name in (TEACHER, ALONE, PUPIL):
        driven.train(name)
        folder_of(settings, key(name))
    driven.store.conclude(driven.id, driven.attempt)
    return driven


def files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_what_a_training_goes_on_from_has_one_name() -> None:
    assert LAST_STATE == RESUME


def test_the_last_state_of_a_finished_trial_goes_after_its_time_and_nothing_else_of_it(
    over: Driven, garbage: Garbage, settings: Settings, clock: Clock
) -> None:
    clock.seconds += DAY - 1
    assert collected(garbage) == []
    (settings.trials / key(TEACHER) / ".last.pt-4711").write_bytes(b"x" * 11)  # its process was killed while it wrote
    clock.seconds += 2
    gone = collected(garbage)
    assert {(each.kind, each.name, each.bytes) for each in gone} == {
        (Kind.STATES, key(TEACHER), 111),
        (Kind.STATES, key(ALONE), 100),
        (Kind.STATES, key(PUPIL), 100),
    }
    for name in (TEACHER, ALONE, PUPIL):
        assert files(settings.trials / key(name)) == {"lock", "model.pth", "best.pth", "result.json"}
    assert list((settings.trials / GONE).iterdir()) == []
    assert collected(garbage) == []


def test_a_trial_that_failed_was_cancelled_or_may_be_resumed_keeps_its_last_state(
    driven: Driven, garbage: Garbage, settings: Settings, clock: Clock
) -> None:
    driven.train(TEACHER)
    driven.begin(ALONE)
    driven.fail(ALONE, "nan", "loss became NaN")
    driven.begin(PUPIL)
    for name in (TEACHER, ALONE, PUPIL):
        folder_of(settings, key(name))
    clock.seconds += 99 * DAY
    assert collected(garbage) == []  # the study runs
    driven.store.end_attempt(driven.id, 1, "killed")
    driven.store.request_cancel(driven.id)
    clock.seconds += 99 * DAY
    assert [(each.kind, each.name) for each in collected(garbage)] == [(Kind.STATES, key(TEACHER))]
    assert driven.trial(PUPIL).state == TrialState.CANCELLED
    assert {RESUME} <= files(settings.trials / key(ALONE)) & files(settings.trials / key(PUPIL))


def test_the_last_state_stays_where_its_distillers_weights_are_read_from_it(
    store: Store, garbage: Garbage, settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    spec = a_study(student={"detector": "gfl", "backbone": "resnet18"}, arms=[{"id": "pad", "distiller": "pad"}])
    driven = Driven.start(store, tmp_path, spec)
    graph = graph_of(driven, spec)
    while not graph.settle():
        train_next(graph, driven, graph.orders.popleft() if graph.orders else None)
    store.conclude(driven.id, driven.attempt)
    folders = {trial.name: str(trial.folder) for trial in store.trials(driven.id)}
    for folder in folders.values():
        folder_of(settings, folder)
    clock.seconds += 99 * DAY
    assert [each.name for each in collected(garbage)] == [folders[TEACHER]]
    assert RESUME in files(settings.trials / folders["pad/seed-0"])


def test_a_folder_that_nothing_refers_to_goes_after_its_time(over: Driven, garbage: Garbage, settings: Settings, clock: Clock) -> None:
    for name, days in (("old", 3), ("young", 1)):
        folder_of(settings, name, "model.pth", age=days * DAY, now=clock.seconds)
    assert [(each.kind, each.name, each.bytes) for each in garbage.find()] == [(Kind.FOLDERS, "old", 200)]
    assert [each.name for each in collected(garbage)] == ["old"]
    assert {folder.name for folder in settings.trials.iterdir()} == {key(TEACHER), key(ALONE), key(PUPIL), "young", GONE}


def test_a_folder_in_which_a_process_works_stays(over: Driven, garbage: Garbage, settings: Settings, clock: Clock) -> None:
    folder = folder_of(settings, "by hand", "model.pth", age=3 * DAY, now=clock.seconds)
    with alone_in(folder):  # `retort trial`
        os.utime(folder / "lock", (clock.seconds - 3 * DAY,) * 2)
        found = [each for each in garbage.find() if each.kind == Kind.FOLDERS]
        assert [each.name for each in found] == ["by hand"]
        assert garbage.remove(found[0]) is None
    assert (folder / "model.pth").exists()


def test_a_folder_that_is_claimed_between_the_look_and_the_removal_stays(
    driven: Driven, garbage: Garbage, settings: Settings, clock: Clock
) -> None:
    folder = folder_of(settings, key(TEACHER), RESUME, age=3 * DAY, now=clock.seconds)
    (found,) = garbage.find()
    assert found.kind == Kind.FOLDERS
    driven.begin(TEACHER)
    assert garbage.remove(found) is None
    assert RESUME in files(folder)


def test_a_trial_that_comes_as_its_folder_goes_waits_and_gets_a_new_one(settings: Settings) -> None:
    folder = folder_of(settings, "old", RESUME)
    inside = threading.Event()
    seen: list[set[str]] = []

    def train() -> None:
        with alone_in(folder, fence=7):
            seen.append(files(folder))
        inside.set()

    with alone_in(folder):
        process = threading.Thread(target=train)
        process.start()
        assert not inside.wait(0.3)
        folder.replace(settings.trials / "gone")
    process.join()
    assert seen == [{"lock", "fence"}]


def test_what_is_reused_keeps_its_files_and_is_found_again(over: Driven, garbage: Garbage, settings: Settings, clock: Clock) -> None:
    clock.seconds += 99 * DAY
    assert len([each for each in collected(garbage) if each.kind == Kind.STATES]) == 3
    again = over.store.create_study(as_submission(a_study(name="again")))[0]
    attempt = over.store.new_attempt(again.id)
    assert attempt
    over.store.start_attempt(again.id, attempt.number)
    driven = Driven(over.store, again.id, over.folder, attempt.number)
    assert driven.claim(TEACHER, key(TEACHER)).value == "cached"


def test_events_and_points_go_by_age_and_the_story_and_the_last_epoch_stay(over: Driven, settings: Settings, clock: Clock) -> None:
    store = over.store
    garbage = Garbage(store, settings, Policy(None, None, events=3, points=4))
    store.note(over.id, "a word")
    before = store.events(over.id)
    clock.seconds += 5 * DAY
    assert Kind.POINTS not in {each.kind for each in garbage.find()}  # MLflow has yet to be told of them
    store.sent([row.id for row in store.outbox()])
    found = {each.kind: each.rows for each in garbage.find()}
    went = {each.kind: each.rows for each in collected(garbage)}
    story = [event.id for event in before if event.kind in ("study", "note", "regression")]
    assert [event.id for event in store.events(over.id)] == story
    assert went[Kind.EVENTS] == found[Kind.EVENTS] == len(before) - len(story)
    assert went[Kind.POINTS] == found[Kind.POINTS] == 3
    assert [(point.epoch, point.value) for point in store.points(over.id)] == [(2, 20.0)] * 3
    assert [trial.metrics for trial in store.trials(over.id)] == [{"AP": 20.0}] * 3
    assert not {Kind.EVENTS, Kind.POINTS} & {each.kind for each in garbage.find()}


def test_by_default_results_events_and_points_are_kept_for_ever(
    over: Driven, settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.seconds += 8 * DAY
    assert {each.kind for each in Garbage(over.store, settings, Policy.from_environment()).find()} == {Kind.STATES}
    monkeypatch.setenv("RETORT_GC_STATES", "never")
    assert list(Garbage(over.store, settings, Policy.from_environment()).find()) == []
    assert Policy.from_environment().after(0).states is None
    monkeypatch.setenv("RETORT_GC_FOLDERS", "-1")
    with pytest.raises(ValueError, match="RETORT_GC_FOLDERS is '-1'; give a number of days, or never"):
        Policy.from_environment()


def test_notes_of_tune_go_when_their_attempt_is_over(driven: Driven, garbage: Garbage, settings: Settings, clock: Clock) -> None:
    notes = settings.home / "tune" / f"study-{driven.id}-a1"
    notes.mkdir(parents=True)
    clock.seconds += 9 * DAY
    assert list(garbage.find()) == []
    driven.store.end_attempt(driven.id, 1, "killed")
    assert list(garbage.find()) == []  # its driver may write still
    clock.seconds += 2 * DAY
    assert [(each.kind, each.name) for each in collected(garbage)] == [(Kind.NOTES, notes.name)]
    assert not notes.exists()


def test_the_loop_removes_by_the_policy_and_what_an_earlier_one_was_killed_over(
    over: Driven, garbage: Garbage, settings: Settings, clock: Clock
) -> None:
    (settings.trials / GONE / "half").mkdir(parents=True)
    clock.seconds += 2 * DAY
    loop = Collector(garbage)
    loop.step()
    assert list((settings.trials / GONE).iterdir()) == []
    assert RESUME not in files(settings.trials / key(TEACHER))
    folder_of(settings, "later", age=9 * DAY, now=clock.seconds)
    loop.step()
    assert (settings.trials / "later").exists()  # it looks again in an hour
