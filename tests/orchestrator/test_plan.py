"""Plans: what would run, what is reused, what it costs; and the identity of the code."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from orchestrator.plan import plan, together
from orchestrator.records.store import Store
from studies.costs import GPUS
from studies.submission import Submission, as_submission, read_submission
from studies.tables.shipped import numbered_tables
from tests.orchestrator.conftest import ALONE, PUPIL, TEACHER, Driven, a_study, graph_of, train_next, trained


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


def test_a_form_or_another_width_is_another_network(store: Store, tmp_path: Path) -> None:
    trained(store, tmp_path, a_study())
    narrow = a_study(seeds=[5], student={"detector": "gfl", "backbone": "resnet18", "width": 4})
    assert [step.seconds for step in plan(as_submission(narrow), store).steps] == [10.0, None, None]


def a_table(table: str, **how: Any) -> Submission:
    return read_submission({"table": table, "scale": "paper", **how})


def test_at_paper_scale_every_trial_is_estimated_in_device_hours_by_kind_of_gpu(store: Store) -> None:
    made = plan(a_table("frs2021/table-3"), store)
    teacher, baseline, *_ = made.steps
    assert (made.to_train, made.to_evaluate, made.based_on("estimated"), made.unknown) == (4, 1, 5, 0)
    assert (teacher.evaluates, teacher.basis, teacher.seconds) == (True, "estimated", None)
    hours = baseline.gpu_hours
    assert hours is not None
    # RetinaNet ResNet-50, 24 epochs: 251.307e9 multiply-adds an image, 10.8 TFLOP/s on a V100
    assert hours["V100"] == pytest.approx(24 * 2 * 251.307e9 * (3 * 118_287 + 2 * 5_000) / (12 * 0.9e12) / 3600)
    assert hours["V100"] / hours["A100"] == pytest.approx(2.039 / 0.9)
    assert made.gpu_hours["A100"] == pytest.approx(sum(step.gpu_hours["A100"] for step in made.steps if step.gpu_hours))
    assert plan(read_submission({"table": "frs2021/table-3"}), store).gpu_hours == {}


def run_on(store: Store, folder: Path, submission: Submission, device: str) -> None:
    """A study that ran to its end on a GPU."""
    driven = Driven.start(store, folder, submission.spec)
    graph = graph_of(driven, submission.spec)
    while not graph.settle():
        train_next(graph, driven, environment={"device": device})
    store.conclude(driven.id, driven.attempt)


def test_a_measured_time_wins_over_an_estimate_and_is_carried_to_other_kinds(store: Store, tmp_path: Path) -> None:
    run_on(store, tmp_path, a_table("ld2022/figure-2"), "NVIDIA A100-SXM4-80GB")
    made = plan(a_table("ld2022/figure-2", seeds=[1]), store)
    student = made.steps[1]
    assert (student.basis, student.seconds) == ("measured", 10.0)
    assert student.gpu_hours == pytest.approx({gpu.id: 10.0 * 8 / 3600 * 2.039 / gpu.bandwidth for gpu in GPUS.values()})
    assert made.based_on("measured") == made.to_run + made.to_measure


def test_a_time_of_an_unlisted_kind_stands_beside_the_estimate(store: Store, tmp_path: Path) -> None:
    run_on(store, tmp_path, a_table("ld2022/figure-2"), "A GPU of tomorrow")
    step = plan(a_table("ld2022/figure-2", seeds=[1]), store).steps[1]
    assert (step.basis, step.seconds) == ("estimated", 10.0)


def test_measurements_are_estimated_by_the_images_that_they_look_at(store: Store) -> None:
    made = plan(a_table("pdf-distil2021/table-2"), store)
    assert {(step.measurement.kind, step.basis) for step in made.measurements} == {("d_pred", "estimated")}
    hours = made.measurements[0].gpu_hours
    assert hours is not None
    pair = 2 * (21.918e9 + 38.614e9)  # RetinaNet ResNet-18 and its teacher at 320 x 320: the first student of the table
    assert hours["V100"] == pytest.approx(4_952 * 2 * pair / (12 * 0.9e12) / 3600)
    assert (made.to_measure, made.unknown) == (len(made.measurements), 0)
    trainings = sum(step.gpu_hours["V100"] for step in made.steps if step.gpu_hours)
    assert made.gpu_hours["V100"] == pytest.approx(trainings + sum(step.gpu_hours["V100"] for step in made.measurements if step.gpu_hours))


def test_what_two_studies_measure_alike_counts_for_the_first(store: Store) -> None:
    first, second = together([a_table("pdf-distil2021/table-2"), a_table("pdf-distil2021/table-2", seeds=[0, 1])], store)
    count = first.left.to_measure
    assert (count, second.left.to_measure, second.plan.to_measure) == (24, 24, 48)  # 20 distilled students and 4 alone


def test_what_two_studies_share_counts_for_the_first(store: Store) -> None:
    first, second = together([a_table("frs2021/table-1"), a_table("frs2021/table-3")], store)
    assert (first.shared, len(first.left.steps)) == (0, 14)
    assert (second.shared, second.left.to_train, second.left.to_evaluate) == (3, 2, 0)
    assert len(second.plan.steps) == 5
    again = together([a_table("frs2021/table-1"), a_table("frs2021/table-1", force=True)], store)[1]
    assert (again.shared, again.left.to_run) == (0, 14)


def test_all_tables_are_168_trainings_and_6_evaluations_and_few_queries(store: Store) -> None:
    for dataset in ("coco", "voc", "cityscapes"):
        store.record_dataset(dataset, "digest")
    asked = [a_table(table) for table in numbered_tables()]
    queries: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *told: queries.append(told[2]))
    shares = together(asked, store)
    assert sum(share.left.to_train for share in shares) == 168
    assert sum(share.left.to_evaluate for share in shares) == 6
    assert sum(share.left.unknown for share in shares) == 0
    # digest and history of three datasets, history of the measurements on two; finished trials of those without teachers, as others
    # have no key yet
    assert sum(query.startswith("SELECT") for query in queries) == 3 * 2 + 2 + 1


def test_planning_needs_neither_torch_nor_ray() -> None:
    told = "import sys, orchestrator.plan, orchestrator.reporting.build; print({'torch', 'ray', 'mlflow', 'mmdet'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
