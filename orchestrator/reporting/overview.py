"""All papers' tables at a glance: what the newest finished study of each table at each scale came to."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from orchestrator.records.schema import Study, Trial
from orchestrator.reporting.build import build
from orchestrator.reporting.summary import Summary, summary
from orchestrator.reporting.table import Table
from studies.presentation import Presentation


@dataclass(frozen=True)
class TableStanding:
    """A shipped table ("zhang2021/table-3") and its newest finished study at a scale; without one it was never run to its end.

    seeds: the most that a row has. summary: of its published numbers and claims.
    """

    table: str
    title: str | None = None
    scale: str | None = None
    study: int | None = None
    seeds: int = 0
    summary: Summary | None = None

    @property
    def paper(self) -> str:
        return self.table.partition("/")[0]


def overview(
    studies: Iterable[Study],
    presentation: Callable[[int], Presentation],
    trials: Callable[[int], Sequence[Trial]],
    known: Sequence[str] = (),
) -> list[TableStanding]:
    """In the order of `known`, the ids of all tables, then those that no longer ship; each at every scale it was run at.

    studies: the newest finished one of each table and scale. presentation, trials: of a study, by its id.
    """
    return arranged((standing(build(study, presentation(study.id), trials(study.id))) for study in studies), known)


def standing(table: Table) -> TableStanding | None:
    """What one study's table came to; None where it is none that ships."""
    if not table.table:
        return None
    seeds = max((row.done for row in table.rows), default=0)
    return TableStanding(table.table, table.title, table.scale, table.study, seeds, summary(table))


def arranged(standings: Iterable[TableStanding | None], known: Sequence[str]) -> list[TableStanding]:
    """In the order of `known`, those that no longer ship behind; a table that was never run stands without a study."""
    found: dict[str, list[TableStanding]] = {table: [] for table in known}
    for each in filter(None, standings):
        found.setdefault(each.table, []).append(each)
    return [each for table, run in found.items() for each in sorted(run, key=lambda s: s.scale or "") or [TableStanding(table)]]
