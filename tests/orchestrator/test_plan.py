"""Plans: what would run, what is reused, what it costs; and the identity of the code."""

import subprocess
import sys
from pathlib import Path

from orchestrator.plan import plan
from orchestrator.store import Store
from studies.submission import as_submission
from tests.orchestrator.conftest import ALONE, PUPIL, TEACHER, a_study, trained


def test_without_dataset_no_key_is_known(store: Store) -> None:
    made = plan(as_submission(a_study()), store)
    assert [(step.trial.id, step.key, step.reuses, step.seconds) for step in made.steps] == [
        (TEACHER, None, False, None),
        (ALONE, None, False, None),
        (PUPIL, None, False, None),
    ]
    assert (made.to_run, made.unknown, made.device) == (3, 3, "cpu")


def test_with_dataset_the_keys_of_all_but_students_are_known(store: Store) -> None:
    store.record_dataset("digits", "digest")
    keys = [step.key for step in plan(as_submission(a_study()), store).steps]
    assert [key is not None for key in keys] == [True, True, False]


def test_what_was_trained_is_reused_by_another_study(store: Store, tmp_path: Path) -> None:
    store.record_dataset("digits", "digest")
    trained(store, tmp_path, a_study())
    made = plan(as_submission(a_study(name="another")), store)
    assert [step.reuses for step in made.steps] == [True, True, True]
    assert (made.to_run, made.device_seconds) == (0, 0.0)
    more = plan(as_submission(a_study(seeds=[0, 1])), store)
    assert [step.reuses for step in more.steps] == [True, True, False, True, False]


def test_nothing_is_reused_when_forced_or_when_what_decides_the_numbers_differs(store: Store, tmp_path: Path) -> None:
    store.record_dataset("digits", "digest")
    trained(store, tmp_path, a_study())
    assert plan(as_submission(a_study(force=True)), store).to_run == 3
    assert plan(as_submission(a_study(resources={"cpus": 2})), store).to_run == 3
    assert plan(as_submission(a_study(schedule={"epochs": 7})), store).to_run == 3
    store.record_dataset("digits", "another digest")
    assert plan(as_submission(a_study()), store).to_run == 3


def test_time_is_estimated_from_equal_networks_and_methods(store: Store, tmp_path: Path) -> None:
    store.record_dataset("digits", "digest")
    trained(store, tmp_path, a_study())
    made = plan(as_submission(a_study(seeds=[5])), store)
    assert [step.seconds for step in made.steps] == [0.0, 10.0, 40.0]
    assert (made.device_seconds, made.unknown) == (50.0, 0)
    new = a_study(seeds=[5], arms=[{"id": "ld", "distiller": "ld"}])
    assert plan(as_submission(new), store).steps[1].seconds == 25.0  # never seen: the mean of what differs only in its distillers
    assert plan(as_submission(a_study(resources={"cpus": 2})), store).steps[0].seconds is None


def test_planning_needs_neither_torch_nor_ray() -> None:
    told = "import sys, orchestrator.plan, orchestrator.reporting.build; print({'torch', 'ray', 'mlflow', 'mmdet'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
