"""The table: numbers worked out by hand, and its five formats."""

import csv
import io
import json
from html.parser import HTMLParser
from typing import Any

import pytest

from orchestrator import table
from orchestrator.machine import StudyState, TrialState
from orchestrator.schema import Arm, Study, Trial
from orchestrator.table import build, half_width, render

SMALL = {"detector": "gfl", "backbone": "resnet18"}
LARGE = {"detector": "gfl", "backbone": "resnet34"}


def arm(number: int, name: str, role: str, network: dict[str, str] = SMALL, epochs: int = 4, title: str | None = None) -> Arm:
    detail = {"network": network, "schedule": {"epochs": epochs}, "distillers": []}
    return Arm(id=number, name=name, title=title or name, role=role, detail=detail)


def trial(arm: Arm, seed: int, ap: float | None, state: TrialState = TrialState.FINISHED, **fields: Any) -> Trial:
    metrics = None if ap is None else {"AP": ap, "AP50": ap + 20}
    return Trial(arm_id=arm.id, name=f"{arm.name}/seed-{seed}", seed=seed, state=state, metrics=metrics, **fields)


def study(**fields: Any) -> Study:
    spec = {"metrics": ["AP", "AP50"], "dataset": "digits", "scale": "nano", "resources": {"cpus": 1, "gpus": 0}}
    return Study(**{"id": 3, "name": "a try", "spec": spec, "state": StudyState.FINISHED, "experiment": "5", "run": "parent"} | fields)


TEACHER, BASE, KD = arm(1, "teacher", "teacher", LARGE), arm(2, "student", "baseline"), arm(3, "fitnet", "distilled")
TRIALS = [
    trial(TEACHER, 0, 75.66),
    *(trial(BASE, seed, ap, run=f"run{seed}") for seed, ap in enumerate([30.0, 31.0, 32.0])),
    *(trial(KD, seed, ap) for seed, ap in enumerate([40.0, 42.0])),
    trial(KD, 2, None, TrialState.FAILED, reason="the loss became NaN"),
]


def made(**fields: Any) -> table.Table:
    return build(study(**fields), [TEACHER, BASE, KD], TRIALS, "http://mlflow:5000/")


def test_mean_interval_and_difference_are_those_worked_out_by_hand() -> None:
    teacher, base, kd = made().rows
    assert (teacher.cells["AP"].mean, teacher.cells["AP"].half_width, teacher.cells["AP"].difference) == (75.66, None, None)
    # 30, 31, 32: deviation 1; t(0.975; 2) = 4.302653; 4.302653 / sqrt(3) = 2.484138
    assert base.cells["AP"].mean == 31.0
    assert base.cells["AP"].half_width == pytest.approx(2.484138, abs=1e-6)
    assert base.cells["AP"].difference is None
    # 40, 42: deviation sqrt(2); t(0.975; 1) = 12.706205; times sqrt(2) / sqrt(2)
    assert kd.cells["AP"].mean == 41.0
    assert kd.cells["AP"].half_width == pytest.approx(12.706205, abs=1e-6)
    assert kd.cells["AP"].difference == 10.0
    assert kd.cells["AP50"].difference == 10.0
    assert kd.cells["AP"].difference_half_width is None  # the third seed failed


def test_the_interval_of_a_difference_is_over_the_seeds_own_differences() -> None:
    better = [trial(KD, seed, ap) for seed, ap in enumerate([40.0, 42.0, 41.0])]  # 10, 11 and 9 better
    made = build(study(), [BASE, KD], [*TRIALS[1:4], *better])
    assert made.rows[1].cells["AP"].difference == 10.0
    assert made.rows[1].cells["AP"].difference_half_width == pytest.approx(2.484138, abs=1e-6)
    assert "41.0 ±2.5 (+10.0 ±2.5)" in render(made, "md")
    assert "In parentheses: difference to the student without a distiller, ± over the differences seed by seed." in made.notes


def test_no_interval_for_a_single_seed() -> None:
    assert half_width([5.0]) is None
    assert half_width([]) is None
    assert half_width([5.0, 5.0]) == 0.0


def test_seeds_done_failed_and_cached_are_counted() -> None:
    assert [row.seeds for row in made().rows] == ["1", "3", "2/3 (1 failed)"]
    cached = [trial(BASE, 0, 1.0, TrialState.CACHED), trial(BASE, 1, 1.0, TrialState.CACHED)]
    assert build(study(), [BASE], cached).rows[0].seeds == "2 (cached)"
    mixed = [trial(BASE, 0, 1.0, TrialState.CACHED), trial(BASE, 1, 1.0), trial(BASE, 2, None, TrialState.RUNNING)]
    assert build(study(), [BASE], mixed).rows[0].seeds == "2/3 (1 cached)"


def test_the_baseline_is_the_one_with_the_same_student_and_schedule() -> None:
    other_net, other_length = arm(4, "large", "baseline", LARGE), arm(5, "long", "baseline", epochs=12)
    long_kd = arm(6, "long-fitnet", "distilled", epochs=12)
    trials = [trial(other_net, 0, 50.0), trial(other_length, 0, 35.0), trial(BASE, 0, 30.0), trial(KD, 0, 41.0), trial(long_kd, 0, 44.0)]
    rows = {row.id: row for row in build(study(), [other_net, other_length, BASE, KD, long_kd], trials).rows}
    assert rows["fitnet"].cells["AP"].difference == 11.0
    assert rows["long-fitnet"].cells["AP"].difference == 9.0


def test_without_a_baseline_there_is_no_difference() -> None:
    assert build(study(), [TEACHER, KD], TRIALS).rows[1].cells["AP"].difference is None


def test_runs_are_linked_where_mlflow_knows_them() -> None:
    rows = made().rows
    assert rows[1].runs[2].url == "http://mlflow:5000/#/experiments/5/runs/run2"
    assert rows[0].runs[0].url is None
    assert build(study(), [BASE], TRIALS).rows[0].runs[0].url is None


def test_a_running_study_shows_what_is_there() -> None:
    started = [trial(BASE, 0, 30.0), trial(BASE, 1, None, TrialState.RUNNING), trial(KD, 0, None, TrialState.WAITING)]
    running = build(study(state=StudyState.RUNNING), [BASE, KD], started)
    assert running.rows[0].seeds == "1/2"
    assert running.rows[1].cells == {}
    assert "The study is running: this is what is there so far." in running.notes


def test_markdown_is_aligned_and_says_what_failed_and_why() -> None:
    assert render(made(), "md") == (
        "**a try** (study 3, digits, scale nano)\n"
        "\n"
        "| arm     | AP                 | AP50               | seeds          |\n"
        "|---------|--------------------|--------------------|----------------|\n"
        "| teacher | 75.7               | 95.7               | 1              |\n"
        "| student | 31.0 ±2.5          | 51.0 ±2.5          | 3              |\n"
        "| fitnet  | 41.0 ±12.7 (+10.0) | 61.0 ±12.7 (+10.0) | 2/3 (1 failed) |\n"
        "\n"
        "- ± is the half-width of the 95% t interval over the seeds.\n"
        "- In parentheses: difference to the student without a distiller.\n"
        "- fitnet, seed 2 failed: the loss became NaN\n"
    )


def test_a_tiny_loss_does_not_print_as_minus_nought() -> None:
    trials = [trial(BASE, 0, 30.0), trial(KD, 0, 29.99)]
    assert "30.0 (+0.0)" in render(build(study(), [BASE, KD], trials), "md")


def test_costs_are_printed_without_gains_and_counts_without_an_interval() -> None:
    costs = {"Params": 0.3231, "FLOPs": 0.05024, "D_pred": 0.01234}
    trials = [
        Trial(
            arm_id=row.id,
            name=f"{row.name}/seed-{seed}",
            seed=seed,
            state=TrialState.FINISHED,
            metrics=costs | {"AP": ap, "FPS": fps},
            environment={"device": device},
        )
        for row, seed, ap, fps, device in [
            (BASE, 0, 30.0, 40.0, "cpu, 1 threads"),
            (BASE, 1, 30.0, 40.0, "cpu, 1 threads"),
            (KD, 0, 31.0, 41.0, "cpu, 1 threads"),
            (KD, 1, 31.0, 43.0, "cpu, 2 threads"),
        ]
    ]
    spec = {"metrics": ["AP", "Params", "FLOPs", "FPS", "D_pred"], "dataset": "digits", "scale": "nano", "resources": {"gpus": 0}}
    found = build(study(spec=spec), [BASE, KD], trials)
    lines = render(found, "md").splitlines()
    assert lines[5] == "| fitnet  | 31.0 ±0.0 (+1.0 ±0.0) | 0.32   | 0.050 | 42.0 ±12.7 | 0.0123 ±0.0000 (+0.0000 ±0.0000) | 2     |"
    assert "FPS is of one image at a time on cpu, 1 threads, and on cpu, 2 threads, beside what else ran there." in found.notes
    assert r"$0.32$ & $0.050$ & $42.0 \pm 12.7$ &" in render(found, "tex")


def test_csv_has_the_numbers_in_full() -> None:
    rows = list(csv.DictReader(io.StringIO(render(made(), "csv"))))
    assert float(rows[2]["AP_half_width"]) == half_width([40.0, 42.0])
    assert (rows[2]["AP"], rows[2]["AP_difference"], rows[2]["seeds_done"], rows[2]["seeds"], rows[2]["failed"]) == (
        "41.0",
        "10.0",
        "2",
        "3",
        "1",
    )
    assert rows[0]["AP_half_width"] == ""


def test_csv_titles_are_no_formulas() -> None:
    evil = arm(1, "evil", "baseline", title='=HYPERLINK("http://x")')
    rows = list(csv.DictReader(io.StringIO(render(build(study(), [evil], []), "csv"))))
    assert rows[0]["title"].startswith("'=")


def test_json_says_everything() -> None:
    data = json.loads(render(made(), "json"))
    assert data["rows"][2]["cells"]["AP"]["mean"] == 41.0
    assert data["rows"][2]["runs"][2] == {
        "trial": "fitnet/seed-2",
        "seed": 2,
        "state": "failed",
        "reason": "the loss became NaN",
        "url": None,
    }
    assert data["url"] == "http://mlflow:5000/#/experiments/5/runs/parent"


def test_tex_is_booktabs_and_escaped() -> None:
    evil = arm(2, "a_b", "baseline", title=r"50% & \input{x} #1_2 ~^")
    text = render(build(study(), [TEACHER, evil], [trial(TEACHER, 0, 75.66), trial(evil, 0, 1.0), trial(evil, 1, 3.0)]), "tex")
    assert r"50\% \& \textbackslash{}input\{x\} \#1\_2 \textasciitilde{}\textasciicircum{} & $2.0 \pm 12.7$" in text
    assert text.count(r"\midrule") == 2
    assert text.index("teacher &") < text.rindex(r"\midrule") < text.index(r"50\%")


def test_a_reason_of_many_lines_stays_in_its_comment() -> None:
    broken = [trial(BASE, 0, None, TrialState.FAILED, reason="first\nsecond \\end{tabular}")]
    lines = render(build(study(), [BASE], broken), "tex").splitlines()
    assert lines[-1] == r"% student, seed 0 failed: first second \end{tabular}"


def test_html_is_escaped_and_links_the_runs() -> None:
    evil = arm(2, "student", "baseline", title="<script>alert(1)</script>")
    text = render(build(study(name="<b>"), [evil], TRIALS, "http://mlflow:5000"), "html")
    seen: list[tuple[str, list[tuple[str, str | None]]]] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append((tag, attrs))

    Parser().feed(text)
    tags = [tag for tag, _ in seen]
    assert "script" not in tags
    assert "b" not in tags
    assert ("a", [("href", "http://mlflow:5000/#/experiments/5/runs/run0")]) in seen


def test_two_versions_of_the_code_in_one_table_are_told() -> None:
    trials = [trial(BASE, 0, 1.0, environment={"training_code": "a"}), trial(BASE, 1, 1.0, environment={"training_code": "b"})]
    assert "Its trials were trained by 2 versions of the code." in build(study(), [BASE], trials).notes


def test_the_form_of_a_method_whose_paper_and_code_disagree_is_told() -> None:
    distilled = arm(2, "pdf", "distilled", title="PDF-Distil")
    distilled.detail["distillers"] = [{"id": "pdf_distil", "options": {"variant": "code"}}]
    notes = build(study(), [BASE, distilled], [trial(BASE, 0, 1.0), trial(distilled, 0, 2.0)]).notes
    assert "Where paper and released code disagree, the form used is: PDF-Distil (code)." in notes


def test_a_summed_loss_on_another_batch_than_its_weight_is_stated_for_is_told() -> None:
    distilled = arm(2, "ld", "distilled", title="LD")
    distilled.detail |= {"distillers": [{"id": "ld", "weight": 1.0, "options": {}}], "schedule": {"epochs": 4, "batch_size": 4}}
    notes = build(study(), [BASE, distilled], [trial(BASE, 0, 1.0), trial(distilled, 0, 2.0)]).notes
    assert "LD: the loss of LD is summed over the batch, and its weight is stated for 3 images per device; here are 4." in notes
