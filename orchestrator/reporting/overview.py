"""All papers' tables at a glance: what the newest finished study of each table at each scale came to."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from orchestrator.records.schema import Study, Trial
from orchestrator.reporting.build import build
from orchestrator.reporting.summary import Summary, summary
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
    found: dict[str, list[TableStanding]] = {table: [] for table in known}
    for study in studies:
        table = build(study, presentation(study.id), trials(study.id))
        if table.table:
            seeds = max((row.done for row in table.rows), default=0)
            found.setdefault(table.table, []).append(TableStanding(table.table, table.title, table.scale, study.id, seeds, summary(table)))
    return [each for table, run in found.items() for each in sorted(run, key=lambda s: s.scale or "") or [TableStanding(table)]]
