"""What the store keeps by small steps (states, counts, what is lacking) against a study of which everything is counted anew."""

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from orchestrator import machine
from orchestrator.machine import IllegalMove, StudyState, TrialState
from orchestrator.records.schema import Need
from orchestrator.records.store import Store
from studies.submission import as_submission
from tests.orchestrator.conftest import a_study
from tests.orchestrator.test_machine import events_of
from tests.orchestrator.whole import Whole

NAMES = ["teacher/gfl-resnet34/seed-0", "student/seed-0", "fitnet/seed-0", "fitnet/seed-1", "fitnet/seed-2"]


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    """What each trial needs: any of those before it."""
    return {name: tuple(other for other in NAMES[:place] if draw(st.booleans())) for place, name in enumerate(NAMES)}


@settings(max_examples=60, deadline=None)
@given(graphs(), st.lists(events_of(st.sampled_from(NAMES)), max_size=25))
def test_the_store_moves_a_study_as_if_it_knew_all_of_it(needs: dict[str, tuple[str, ...]], happened: list[machine.Event]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/retort.db")
        study, _ = store.create_study(as_submission(a_study(seeds=[0, 1, 2])))
        as_graph(store, study.id, needs)
        whole = Whole(needs)
        for event in happened:
            whole.study = replace(whole.study, driven=False)  # a study here has no attempts
            allowed = True
            try:
                whole.advance(event)
            except IllegalMove:
                allowed = False
            assert moved(store, study.id, event) == allowed
            rows = {trial.name: trial for trial in store.trials(study.id)}
            assert store.study(study.id).state == whole.state
            assert {name: row.state for name, row in rows.items()} == {name: trial.state for name, trial in whole.trials.items()}
            assert {name: row.reason for name, row in rows.items()} == {name: trial.reason for name, trial in whole.trials.items()}
            assert {name: row.losses for name, row in rows.items()} == {name: trial.losses for name, trial in whole.trials.items()}
            assert {name: row.lacking for name, row in rows.items()} == {name: len(whole.lacking(name)) for name in rows}
            assert store.counts(study.id) == Counter(row.state for row in rows.values())
        store.close()


def as_graph(store: Store, study_id: int, needs: dict[str, tuple[str, ...]]) -> None:
    """The study's five trials, with these needs in place of theirs."""
    with store._writes.begin() as session:
        rows = {row.name: session.merge(row) for row in store.trials(study_id)}
        for name in set(rows) - set(NAMES):
            session.delete(rows.pop(name))
        session.flush()
        session.query(Need).delete()
        for name, row in rows.items():
            row.lacking, row.state = len(needs[name]), TrialState.WAITING if needs[name] else TrialState.READY
            row.position = NAMES.index(name)
        session.flush()
        pairs = [{"trial_id": rows[name].id, "needed_id": rows[needed].id} for name in rows for needed in needs[name]]
        if pairs:
            session.execute(insert(Need), pairs)
        study = session.merge(store.study(study_id))
        study.counts = dict(Counter(row.state.value for row in rows.values()))


def moved(store: Store, study_id: int, event: machine.Event) -> bool:
    """Passes an event to the store; False when it is refused."""
    try:
        with store._unit(study_id) as unit:
            unit.advance(event)
    except IllegalMove:
        return False
    return True


def test_a_thousand_students_are_ready_with_one_event(store: Store, tmp_path: Path) -> None:
    arms = [{"id": f"fitnet-{number}", "distiller": "fitnet", "weight": 1.0 + number} for number in range(20)]
    study, _ = store.create_study(as_submission(a_study(arms=arms, seeds=list(range(50)))))
    attempt = store.new_attempt(study.id)
    assert attempt
    store.start_attempt(study.id, attempt.number)
    with store._unit(study.id) as unit:
        unit.advance(machine.TrialCached("teacher/gfl-resnet34/seed-0"))
    assert store.counts(study.id) == {TrialState.CACHED: 1, TrialState.READY: 1000}
    told = [event.data for event in store.events(study.id) if event.kind == "trials"]
    assert [(data["count"], data["state"], data["of"]) for data in told] == [(1000, "ready", "teacher/gfl-resnet34/seed-0")]
    store.request_cancel(study.id)
    assert store.stopped(study.id, attempt.number).state == StudyState.CANCELLED
    assert store.trial_counts([study.id])[study.id] == {TrialState.CACHED: 1, TrialState.CANCELLED: 1000}
    store.request_resume(study.id)
    assert store.counts(study.id) == {TrialState.CACHED: 1, TrialState.READY: 1000}


def test_pages_of_trials_hold_each_trial_once(store: Store) -> None:
    study, _ = store.create_study(as_submission(a_study(seeds=list(range(7)))))
    whole = [trial.name for trial in store.trials(study.id)]
    seen: list[str] = []
    cursor = None
    while page := store.trial_page(study.id, cursor, limit=4):
        seen += [trial.name for trial in page]
        cursor = page[-1].position
    assert seen == whole
    assert [trial.name for trial in store.trial_page(study.id, names=[whole[3], "nobody"])] == [whole[3]]
