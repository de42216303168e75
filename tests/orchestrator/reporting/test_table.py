"""The table of a study: numbers worked out by hand, what is counted, linked and told below it."""

import sys
from types import FrameType
from typing import Any

import pytest

from orchestrator.machine import StudyState, TrialState
from orchestrator.records.schema import Trial
from orchestrator.reporting.build import build
from orchestrator.reporting.rendering import FORMATS, render
from studies.presentation import Column, Difference, Presentation
from tests.orchestrator.reporting.made import BASE, KD, TEACHER, TRIALS, a_try, presentation, published, row, study, table, trial, trials


def test_mean_interval_and_gain_are_those_worked_out_by_hand() -> None:
    teacher, base, kd = a_try().rows
    assert (teacher.cells["AP"].mean, teacher.cells["AP"].half_width, teacher.cells["AP"].gain) == (75.66, None, None)
    # 30, 31, 32: deviation 1; t(0.975; 2) = 4.302653; 4.302653 / sqrt(3) = 2.484138
    assert base.cells["AP"].mean == 31.0
    assert base.cells["AP"].half_width == pytest.approx(2.484138, abs=1e-6)
    assert base.cells["AP"].gain is None
    # 40, 42: deviation sqrt(2); t(0.975; 1) = 12.706205; times sqrt(2) / sqrt(2)
    assert kd.cells["AP"].mean == 41.0
    assert kd.cells["AP"].half_width == pytest.approx(12.706205, abs=1e-6)
    assert kd.cells["AP"].by_seed == {0: 40.0, 1: 42.0}


def test_a_gain_is_over_the_seeds_that_both_rows_have_and_says_so() -> None:
    made = a_try()
    gain = made.rows[2].cells["AP"].gain  # the third seed failed: 40 - 30 and 42 - 31
    assert gain is not None
    assert (gain.mean, gain.n, gain.by_seed) == (10.5, 2, {0: 10.0, 1: 11.0})
    assert gain.half_width == pytest.approx(12.706205 * 0.5**0.5 / 2**0.5, abs=1e-6)
    full = table([BASE, KD], [*TRIALS[1:4], *trials("fitnet", 40.0, 42.0, 41.0)])  # 10, 11 and 9 better
    gain = full.rows[1].cells["AP"].gain
    assert gain is not None
    assert (gain.mean, gain.half_width) == (10.0, pytest.approx(2.484138, abs=1e-6))
    assert "41.0 ±2.5 (+10.0 ±2.5)" in render(full, "md")
    assert "In parentheses: difference to the student without a distiller, ± over the differences seed by seed." in full.notes
    one_more = table([row("student", "baseline", 2), KD], [*TRIALS[1:3], *trials("fitnet", 40.0, 42.0, 41.0)])
    assert "Differences over the seeds alone that both rows have: fitnet." in one_more.notes


def test_rows_that_cannot_be_paired_differ_by_their_means_without_an_interval() -> None:
    gain = table([row("student", "baseline", 1), KD], [TRIALS[1], *trials("fitnet", 40.0, 42.0, 41.0)]).rows[1].cells["AP"].gain
    assert gain is not None
    assert (gain.mean, gain.half_width, gain.n) == (11.0, None, 1)


def test_seeds_done_failed_and_cached_are_counted() -> None:
    assert [row.seeds for row in a_try().rows] == ["1", "3", "2/3 (1 failed)"]
    two = row("student", "baseline", 2)
    assert table([two], cached(2)).rows[0].seeds == "2 (cached)"
    mixed = [*cached(1), trial("student", 1, 1.0), trial("student", 2, None, TrialState.RUNNING)]
    assert table([BASE], mixed).rows[0].seeds == "2/3 (1 cached)"


def cached(count: int) -> list[Trial]:
    return [trial("student", seed, 1.0, TrialState.CACHED) for seed in range(count)]


def test_without_a_baseline_there_is_no_gain() -> None:
    assert table([TEACHER, row("fitnet", "distilled")], TRIALS).rows[1].cells["AP"].gain is None


def test_a_trial_may_serve_several_rows() -> None:
    again = row("again", "baseline", trials=BASE.trials, title="Faster RCNN, once more")
    made = table([BASE, again, row("gain", "distilled", trials=KD.trials, baseline="again")], TRIALS)
    assert [row.cells["AP"].mean for row in made.rows] == [31.0, 31.0, 41.0]
    assert made.rows[2].cells["AP"].gain == made.rows[2].cells["AP50"].gain


def test_a_difference_row_is_paired_by_seed() -> None:
    apart = row("apart", "difference", 0, difference=Difference(of="fitnet", minus="student"), title="KD - student")
    made = table([BASE, KD, apart], [*TRIALS[1:4], *trials("fitnet", 40.0, 42.0, 41.0)])
    cell = made.rows[2].cells["AP"]
    assert (cell.mean, cell.half_width, cell.n) == (10.0, pytest.approx(2.484138, abs=1e-6), 3)
    assert made.rows[2].seeds == "3"
    assert "| KD - student | 10.0 ±2.5" in render(made, "md")


def test_measurement_jobs_complete_the_metrics_seed_by_seed_and_their_failure_is_told() -> None:
    d_pred = Column(metric="D_pred", title="D_pred", decimals=4, better="lower")
    measured = row("student", "baseline", 2, measurements=("d/seed-0", "d/seed-1"))
    jobs = [
        Trial(name="d/seed-1", seed=1, state=TrialState.FINISHED, metrics={"D_pred": 0.000254}),
        Trial(name="d/seed-0", seed=0, state=TrialState.FAILED, reason="no checkpoint"),
    ]
    made = table([measured], [*TRIALS[1:3], *jobs], columns=(*presentation(BASE).columns, d_pred))
    assert made.rows[0].cells["D_pred"].by_seed == {1: 0.000254}
    assert made.rows[0].seeds == "2"
    assert "0.000254 (n 1)" in render(made, "md")
    assert "student, seed 0: measuring failed: no checkpoint" in made.notes


def test_runs_are_linked_where_mlflow_knows_them() -> None:
    rows = a_try().rows
    assert rows[1].runs[2].url == "http://mlflow:5000/#/experiments/5/runs/run2?workflowType=machine_learning"
    assert rows[0].runs[0].url is None
    assert table([BASE], TRIALS).rows[0].runs[0].url is None


def test_a_running_study_shows_what_is_there() -> None:
    started = [
        trial("student", 0, 30.0),
        trial("student", 1, None, TrialState.RUNNING),
        trial("fitnet", 0, None, TrialState.WAITING),
    ]
    running = build(study(state=StudyState.RUNNING), presentation(row("student", "baseline", 2), KD), started)
    assert running.rows[0].seeds == "1/2"
    assert running.rows[1].cells == {}
    assert "The study is running: this is what is there so far." in running.notes


def test_costs_have_no_gain_and_counts_no_interval() -> None:
    of_all = {"Params": 0.3231, "FLOPs": 0.05024, "D_pred": 0.01234}
    measured = [
        Trial(
            name=f"{name}/seed-{seed}",
            seed=seed,
            state=TrialState.FINISHED,
            metrics=of_all | {"AP": ap, "FPS": fps},
            environment={"device": device},
        )
        for name, seed, ap, fps, device in [
            ("student", 0, 30.0, 40.0, "cpu, 1 threads"),
            ("student", 1, 30.0, 40.0, "cpu, 1 threads"),
            ("fitnet", 0, 31.0, 41.0, "cpu, 1 threads"),
            ("fitnet", 1, 31.0, 43.0, "cpu, 2 threads"),
        ]
    ]
    columns = [
        Column(metric="AP", title="AP"),
        Column(metric="Params", title="Params", decimals=2, better=None),
        Column(metric="FLOPs", title="FLOPs", decimals=3, better=None),
        Column(metric="FPS", title="FPS"),
        Column(metric="D_pred", title="D_pred", decimals=4, better="lower"),
    ]
    rows = [row("student", "baseline", 2), row("fitnet", "distilled", 2, baseline="student")]
    found = table(rows, measured, columns=columns)
    lines = render(found, "md").splitlines()
    assert lines[5] == "| fitnet  | 31.0 ±0.0 (+1.0 ±0.0) | 0.32   | 0.050 | 42.0 ±12.7 | 0.0123 ±0.0000 (+0.0000 ±0.0000) | 2     |"
    assert "FPS is of one image at a time on cpu, 1 threads, and on cpu, 2 threads, beside what else ran there." in found.notes
    assert r"$0.32$ & $0.050$ & $42.0 {\pm}12.7$ &" in render(found, "tex")  # wide, so small


def test_two_versions_of_the_code_in_one_table_are_told() -> None:
    of_two = [trial("student", 0, 1.0, environment={"training_code": "a"}), trial("student", 1, 1.0, environment={"training_code": "b"})]
    assert "Its trials were trained by 2 versions of the code: a, b." in table([BASE], of_two).notes


def test_dataset_code_and_libraries_are_told() -> None:
    known: dict[str, Any] = {"dataset_digest": "0123456789abcdef", "environment": {"training_code": "fedcba9876543210", "torch": "2.9.1"}}
    notes = table([BASE], [trial("student", 0, 1.0, **known), trial("student", 1, 1.0, **known)]).notes
    assert "Dataset digits: 0123456789ab." in notes
    assert "Trained by code fedcba987654, torch 2.9.1." in notes


def test_variants_warnings_source_and_hidden_teachers_are_told() -> None:
    hidden = row("teacher", "teacher", 1, title="Cascade X101", hidden=True)
    made = table(
        [hidden, BASE],
        TRIALS,
        variants=("LD (code)", "PDF-Distil (code)"),
        warnings=("LD: its weight is stated for 3 images per device; here are 4",),
        notes=("FPS on one RTX 2080Ti.",),
        source={"paper": "zhang2021", "title": "Improve Object Detection", "venue": "ICLR 2021"},
    )
    assert [row.title for row in made.shown] == ["student"]
    assert "Not printed by the source: Cascade X101: AP 75.7, AP50 95.7, seeds 1." in made.notes
    assert "Where paper and released code disagree, the variant used is: LD (code), PDF-Distil (code)." in made.notes
    assert "LD: its weight is stated for 3 images per device; here are 4." in made.notes
    assert "FPS on one RTX 2080Ti." in made.notes
    assert "Published: Improve Object Detection, ICLR 2021." in made.notes
    assert "Cascade X101 |" not in render(made, "md")


@pytest.mark.parametrize("form", FORMATS)
def test_a_study_of_what_no_catalogue_knows_any_more_is_rendered(form: Any) -> None:
    """Its record alone decides: a distiller, a metric and a dataset that were removed since."""
    record = presentation(
        row("student", "baseline"),
        row("gone", "distilled", title="Removed-Distil", baseline="student"),
        columns=[Column(metric="AP_of_old", title="old AP")],
        variants=("Removed-Distil (code)",),
    ).model_dump(mode="json")
    old = [
        Trial(name=f"{name}/seed-{seed}", seed=seed, state=TrialState.FINISHED, metrics={"AP_of_old": ap + seed})
        for name, ap in (("student", 30.0), ("gone", 33.0))
        for seed in range(3)
    ]
    spec = {"dataset": "a dataset of then", "scale": "micro", "metrics": ["AP_of_old"], "arms": [{"distiller": "removed_distil"}]}
    text = render(build(study(spec=spec), Presentation.model_validate(record), old), form)
    assert "Removed-Distil" in text
    assert "34.0" in text


def calls_of_a_table(rows: int) -> int:
    """How many functions are called to build a table of so many rows with published numbers, of three seeds each."""
    names = [f"arm{number}" for number in range(rows)]
    layout = [row(name, "distilled", baseline=f"arm{number // 10 * 10}", published={"AP": published(30.0 + number % 7)})
              for number, name in enumerate(names)]  # fmt: skip
    record, of_all = presentation(*layout), [each for name in names for each in trials(name, 30.0, 31.0, 32.0)]
    counted = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        build(study(), record, of_all)
    finally:
        sys.setprofile(None)
    return counted


def test_twice_the_rows_cost_twice_the_work() -> None:
    """Nothing looks at all trials, or at all rows, for each row."""
    calls_of_a_table(20)  # fills what is cached
    assert calls_of_a_table(400) <= 2.05 * calls_of_a_table(200)


def test_the_name_of_the_study_is_on_one_line() -> None:
    made = build(study(name="a\nb\x1b[31m"), presentation(BASE), TRIALS)
    assert made.name == "a b"
