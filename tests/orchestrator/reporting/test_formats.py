"""The five formats of a table: what they print, and that no text of a person acts in any of them."""

import csv
import io
import json
from html.parser import HTMLParser

import pytest

from orchestrator.machine import TrialState
from orchestrator.reporting.build import build
from orchestrator.reporting.rendering import FORMATS, Format, render
from orchestrator.reporting.rendering.tex import text as as_tex
from orchestrator.reporting.statistics import half_width
from orchestrator.reporting.table import Table
from studies.presentation import Column
from tests.orchestrator.reporting.made import (
    BASE,
    KD,
    TEACHER,
    TRIALS,
    a_try,
    presentation,
    published,
    row,
    study,
    table,
    trial,
    trials,
)

HOSTILE = (
    "\x1b[31m=1+1 | `x` <script>alert(1)</script> \\input{/etc/passwd} %\r\n\\end{tabular} [a](javascript:b) \x9b2J \u202egpj & é τ 字"
)


def of_a_paper() -> Table:
    """Groups, published numbers, one off, one without a tolerance, one with a remark, one missing, and one of fewer seeds."""
    rows = [
        row("base", "baseline", group="Faster RCNN", published={"AP": published(38.4), "AP50": published(59.0)}, line="160"),
        row(
            "ours",
            "distilled",
            group="Faster RCNN",
            title="+ Our Methods",
            baseline="base",
            published={"AP": published(41.5, remark="printed twice"), "AP50": published(61.3, None)},
        ),
        row("retina", "baseline", 1, group="RetinaNet", published={"AP": published(37.4)}),
    ]
    measured = [*trials("base", 38.3, 38.4, 38.5), *trials("ours", 40.2, 40.4, 40.4)]
    del measured[-1].metrics["AP50"]  # type: ignore[union-attr]
    return table(rows, measured)


def test_markdown_of_a_study_is_aligned_and_says_what_failed_and_why() -> None:
    assert render(a_try(), "md") == (
        "**a try** (study 3, digits, scale nano)\n"
        "\n"
        "| arm     | AP                      | AP50                    | seeds          |\n"
        "|---------|-------------------------|-------------------------|----------------|\n"
        "| teacher | 75.7                    | 95.7                    | 1              |\n"
        "| student | 31.0 ±2.5               | 51.0 ±2.5               | 3              |\n"
        "| fitnet  | 41.0 ±12.7 (+10.5 ±6.4) | 61.0 ±12.7 (+10.5 ±6.4) | 2/3 (1 failed) |\n"
        "\n"
        "- ± is the half-width of the 95% t interval over the seeds.\n"
        "- In parentheses: difference to the student without a distiller, ± over the differences seed by seed.\n"
        "- fitnet, seed 2 failed: the loss became NaN\n"
        "- Runs: http://mlflow:5000/#/experiments/5/runs/parent?workflowType=machine_learning\n"
    )


def test_markdown_of_a_paper_sets_measured_beside_published() -> None:
    lines = render(of_a_paper(), "md").splitlines()
    assert lines[2:9] == [
        "| arm             | AP                         | AP50                      | seeds |",
        "|-----------------|----------------------------|---------------------------|-------|",
        "| **Faster RCNN** |                            |                           |       |",
        "| base            | 38.4 → 38.4 ±0.2 (+0.0) ✓  | 59.0 → 58.4 ±0.2 (-0.6) ✗ | 3     |",
        "| + Our Methods   | 41.5* → 40.3 ±0.3 (-1.2) ✗ | 61.3 → 60.3 ±1.3 (n 2)    | 3     |",
        "| **RetinaNet**   |                            |                           |       |",
        "| retina          | 37.4 → –                   | –                         | 0     |",  # noqa: RUF001
    ]
    assert "| + Our Methods | base | +3.1      | +1.9 ±0.1 | 3 | <0.001 | holds |" in lines
    assert (
        "- published → measured (difference). ✓ reproduced (within the tolerance, or the published number lies in the 95% interval). "
        "✗ off. * see the remarks." in lines
    )
    assert "- Published numbers: 1 reproduced, 2 off, 1 missing. Signs of published gains, all metrics: 2 hold." in lines
    assert "- AP of + Our Methods: printed twice." in lines


def test_a_tiny_loss_does_not_print_as_minus_nought() -> None:
    rows = [row("student", "baseline", 1), row("fitnet", "distilled", 1, baseline="student")]
    assert "30.0 (+0.0)" in render(table(rows, [trial("student", 0, 30.0), trial("fitnet", 0, 29.99)]), "md")


def test_small_numbers_have_three_significant_digits_and_percentages_their_decimals() -> None:
    columns = [Column(metric="D_pred", title="D_pred", decimals=4, better="lower"), Column(metric="AP", title="AP")]
    rows = [
        row("a", "baseline", 2, published={"D_pred": published(2.96e-4, None)}),
        row("b", "distilled", 2, baseline="a"),
        row("c", "distilled", 1, published={"D_pred": published(2.2e-4, None)}),
    ]
    small = {"a": (2.9e-4, 3.02e-4), "b": (2.54e-4, 2.54e-4), "c": (1e-12,)}
    measured = [trial(name, seed, None) for name, values in small.items() for seed, _ in enumerate(values)]
    for each in measured:
        name, _, seed = each.name.partition("/seed-")
        each.metrics = {"D_pred": small[name][int(seed)], "AP": 0.004}
    cells = [line.split(" | ")[1].strip() for line in render(table(rows, measured, columns=columns), "md").splitlines()[4:7]]
    assert cells == ["0.000296 → 0.000296 ±0.000076", "0.000254 ±0.000000 (-0.000042 ±0.000076)", "0.000220 → 0.000000000"]
    assert "| 0.0 " in render(table(rows, measured, columns=columns), "md")


def test_csv_has_the_numbers_in_full() -> None:
    rows = list(csv.DictReader(io.StringIO(render(a_try(), "csv"))))
    assert float(rows[2]["AP_half_width"]) == half_width([40.0, 42.0])
    wanted = ("AP", "AP_n", "AP_gain", "AP_gain_n", "seeds_done", "seeds", "failed")
    assert [rows[2][name] for name in wanted] == ["41.0", "2", "10.5", "2", "2", "3", "1"]
    assert rows[0]["AP_half_width"] == ""
    paper = list(csv.DictReader(io.StringIO(render(of_a_paper(), "csv"))))
    wanted = ("AP_published", "AP_tolerance", "AP_published_gain", "AP_verdict", "AP_remark", "group")
    assert [paper[1][name] for name in wanted] == ["41.5", "0.2", "3.1", "off", "printed twice", "Faster RCNN"]
    assert (paper[0]["line"], paper[2]["AP_verdict"], paper[2]["AP"]) == ("160", "missing", "")


def test_json_says_everything_under_a_versioned_schema() -> None:
    data = json.loads(render(a_try(), "json"))
    assert data["schema"] == "retort.table/1"
    assert data["rows"][2]["cells"]["AP"]["mean"] == 41.0
    assert data["rows"][2]["cells"]["AP"]["by_seed"] == {"0": 40.0, "1": 42.0}
    assert data["rows"][2]["runs"][2] == {
        "trial": "fitnet/seed-2",
        "seed": 2,
        "state": "failed",
        "reason": "the loss became NaN",
        "url": None,
    }
    assert data["url"] == "http://mlflow:5000/#/experiments/5/runs/parent?workflowType=machine_learning"
    paper = json.loads(render(of_a_paper(), "json"))
    cell = paper["rows"][1]["cells"]["AP"]
    assert (cell["published"], cell["published_gain"], cell["verdict"], cell["tolerance"]) == (41.5, 3.1, "off", 0.2)
    assert paper["summary"]["cells"] == {"reproduced": 1, "off": 2, "not comparable": 0, "missing": 1}
    assert paper["claims"]["gains"][0]["claim"] == "holds"
    assert paper["rows"][2]["cells"]["AP"] | {"mean": None, "n": 0, "verdict": "missing"} == paper["rows"][2]["cells"]["AP"]


def test_tex_has_published_and_measured_side_by_side() -> None:
    lines = render(of_a_paper(), "tex").splitlines()
    lines = lines[lines.index(r"\toprule") - 2 :]
    assert lines[3] == r" & \multicolumn{2}{c}{AP} & \multicolumn{2}{c}{AP50} &  \\"
    assert lines[4] == r"\cmidrule(lr){2-3} \cmidrule(lr){4-5}"
    assert lines[5] == r"arm & published & measured & published & measured & seeds \\"
    assert r"\multicolumn{6}{l}{\textit{Faster RCNN}} \\" in lines
    assert r"base & $38.4$ & $38.4 \pm 0.2$\textsuperscript{r} & $59.0$ & $58.4 \pm 0.2$\textsuperscript{o} & 3 \\" in lines
    assert r"retina & $37.4$ & -- &  & -- & 0 \\" in lines
    assert r"+ Our Methods & $41.5${*} & $40.3 \pm 0.3$\textsuperscript{o} & $61.3$ & $60.3 \pm 1.3$ (n 2) & 3 \\" in lines
    table = lines[: lines.index(r"\end{tabular}")]
    columns = {line.count(" & ") for line in table if line.endswith(r" \\") and "multicolumn" not in line}
    assert columns == {5}


@pytest.mark.parametrize(("columns", "size"), [(3, None), (6, r"{\scriptsize"), (9, r"{\tiny")])
def test_a_wide_table_of_tex_is_printed_small(columns: int, size: str | None) -> None:
    metrics = [Column(metric=f"m{number}", title=f"m{number}") for number in range(columns)]
    rows = [row("student", "baseline", 2, published={each.metric: published(38.4) for each in metrics})]
    measured = [trial("student", seed, None) for seed in range(2)]
    for each in measured:
        each.metrics = {column.metric: 38.0 + each.seed for column in metrics}
    lines = render(table(rows, measured, columns=metrics), "tex").splitlines()
    before = lines[lines.index(r"\toprule") - 2]
    assert before.startswith(size or r"\par")
    assert ("}" in lines) == (size is not None)


def test_tex_says_what_markdown_says_below_its_table() -> None:
    text, markdown = (render(of_a_paper(), form) for form in ("tex", "md"))
    assert r"+ Our Methods & base & +3.1 & +1.9 $\pm$0.1 & 3 & $<$0.001 & holds \\" in text
    notes = [line.removeprefix(r"\item ") for line in text.splitlines() if line.startswith(r"\item ")]
    told = [line.removeprefix("- ") for line in markdown.splitlines() if line.startswith("- ")]
    assert notes[1:] == [as_tex(line) for line in told[1:]]
    assert notes[0].startswith(r"\textsuperscript{r} reproduced (within the tolerance")
    assert notes[0].endswith("{*} see the remarks.")


def test_tex_of_a_study_is_booktabs_with_its_teachers_apart() -> None:
    text = render(table([TEACHER, BASE], TRIALS), "tex")
    assert r"student & $31.0 \pm 2.5$ & $51.0 \pm 2.5$ & 3 \\" in text
    assert text.count(r"\midrule") == 2
    assert text.index("teacher &") < text.rindex(r"\midrule") < text.index("student &")


@pytest.mark.parametrize(
    ("plain", "tex"),
    [
        (r"50% & \input{x} #1_2 ~^", r"50\% \& \textbackslash{}input\{x\} \#1\_2 \textasciitilde{}\textasciicircum{}"),
        ("[2pt] *", "{[}2pt] {*}"),  # after a row's end both would be its arguments
        ("a < b | c > ±0.2 → $", r"a $<$ b $|$ c $>$ $\pm$0.2 $\rightarrow$ \$"),
        ("é ü Ł ß λ ς", r"\'{e} \"{u} \L{} \ss{} $\lambda$ $\varsigma$"),
        ("字 🙂", "? ?"),
    ],
)
def test_tex_escapes_what_would_act_and_replaces_what_has_no_letter(plain: str, tex: str) -> None:
    assert as_tex(plain) == tex


def test_html_is_a_page_of_its_own_that_links_the_runs() -> None:
    text = render(build(study(), presentation(BASE, KD), TRIALS, "http://mlflow:5000"), "html")
    seen = tags_of(text)
    assert ("a", (("href", "http://mlflow:5000/#/experiments/5/runs/run0?workflowType=machine_learning"),)) in seen
    assert {tag for tag, _ in seen} & {"script", "link", "img", "iframe"} == set()
    assert text.startswith("<!doctype html>")
    assert "url(" not in text  # nothing is fetched
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text


def test_html_says_verdicts_in_words() -> None:
    text = render(of_a_paper(), "html")
    assert text.count('<span class="verdict reproduced">reproduced</span>') == 1
    assert text.count('<span class="verdict off">off</span>') == 2
    assert text.count('<span class="verdict missing">missing</span>') == 1
    assert text.count('<span class="verdict holds">holds</span>') == 1
    assert '<td data-label="AP">' in text


def tags_of(text: str) -> set[tuple[str, tuple[tuple[str, str | None], ...]]]:
    seen = set()

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.add((tag, tuple(attrs)))

    Parser().feed(text)
    return seen


def hostile() -> Table:
    """Every text that a person gives."""
    rows = [
        row(
            "base",
            "baseline",
            1,
            published={"AP": published(1.0)},
            title=HOSTILE,
            group=HOSTILE,
            line=HOSTILE,
            confidence=HOSTILE,
            remark=HOSTILE,
        ),
        row(
            "kd",
            "distilled",
            2,
            title=HOSTILE,
            group=HOSTILE,
            baseline="base",
            published={"AP": published(3.0, remark=HOSTILE, confidence=HOSTILE)},
            values={HOSTILE: HOSTILE},
        ),
    ]
    measured = [trial("base", 0, 1.0), trial("kd", 0, 2.0), trial("kd", 1, None, TrialState.FAILED, reason=HOSTILE)]
    layout = presentation(
        *rows,
        title=HOSTILE,
        columns=[Column(metric="AP", title=HOSTILE)],
        comparable=HOSTILE,
        warnings=(HOSTILE,),
        notes=(HOSTILE,),
        variants=(HOSTILE,),
        source={"paper": HOSTILE, "title": HOSTILE, "venue": HOSTILE, "lines": HOSTILE},
    )
    return build(study(name=HOSTILE, reason=HOSTILE), layout, measured)


@pytest.mark.parametrize("form", FORMATS)
def test_no_text_steers_a_terminal(form: Format) -> None:
    text = render(hostile(), form)
    assert [char for char in text if (ord(char) < 32 and char != "\n") or 0x7F <= ord(char) < 0xA0 or char == "\u202e"] == []


def test_hostile_text_stays_in_its_cell_of_markdown() -> None:
    text = render(hostile(), "md")
    assert "<script" not in text.replace("\\<script", "")
    assert "](javascript" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {4, 8}  # the table's and the gains'


def test_hostile_text_stays_in_its_cell_or_note_of_tex() -> None:
    lines = render(hostile(), "tex").splitlines()
    assert lines[0].startswith("% ")
    assert [lines.count(rf"\{end}{{tabular}}") for end in ("begin", "end")] == [0, 2]  # begins name their columns
    assert lines[-1] == r"\end{itemize}"
    assert not any(r"\input" in line or line.count("%") != line.count(r"\%") for line in lines[1:])


def test_hostile_text_is_text_in_html() -> None:
    tags = {tag for tag, _ in tags_of(render(hostile(), "html"))}
    assert tags.isdisjoint({"script"})


def test_hostile_text_is_no_formula_and_no_new_row_of_csv() -> None:
    rows = list(csv.reader(io.StringIO(render(hostile(), "csv"))))
    assert {len(line) for line in rows} == {len(rows[0])}
    assert len(rows) == 3
    assert rows[1][1].startswith("'=1+1")
    assert not any(field[:1] in ("=", "@") for line in rows for field in line)
