"""The papers' tables at a glance."""

from orchestrator.reporting.claims import Standing
from orchestrator.reporting.overview import overview
from orchestrator.reporting.verdicts import Verdict
from tests.orchestrator.reporting.made import presentation, published, row, study, trials


def test_each_table_is_counted_at_each_scale_and_the_others_were_not_run() -> None:
    rows = [
        row("base", "baseline", published={"AP": published(38.4)}),
        row("kd", "distilled", baseline="base", published={"AP": published(41.5)}),
    ]
    measured = [*trials("base", 38.3, 38.4, 38.5), *trials("kd", 40.2, 40.4, 40.4)]
    layouts = {
        1: presentation(*rows, table="zhang2021/table-3"),
        2: presentation(*rows, table="zhang2021/table-3", comparable="another scale"),
        3: presentation(*rows, table="gone2020/table-1"),
    }
    studies = [study(id=number, spec={"dataset": "coco", "scale": scale}) for number, scale in ((1, "paper"), (2, "nano"), (3, "paper"))]
    found = overview(studies, layouts.__getitem__, lambda _: measured, ("ld2022/table-1", "zhang2021/table-3"))
    assert [(each.table, each.scale, each.study, each.seeds) for each in found] == [
        ("ld2022/table-1", None, None, 0),
        ("zhang2021/table-3", "nano", 2, 3),
        ("zhang2021/table-3", "paper", 1, 3),
        ("gone2020/table-1", "paper", 3, 3),
    ]
    assert found[0].summary is None
    assert found[1].summary is not None
    assert found[2].summary is not None
    assert found[1].summary.cells[Verdict.NOT_COMPARABLE] == 2
    assert (found[2].summary.cells[Verdict.REPRODUCED], found[2].summary.cells[Verdict.OFF]) == (1, 1)
    assert found[1].summary.gains[Standing.HOLDS] == found[2].summary.gains[Standing.HOLDS] == 1
    assert found[3].paper == "gone2020"
