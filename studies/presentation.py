"""How a study's results are shown: rows, groups and columns with what a paper published, frozen with the study when it is made.

A table is a pure function of this record and of what the trials measured, so no later change of the catalogue reaches it. A search alone
adds to it: the rows of what it found, with the trials that these need.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["teacher", "baseline", "distilled"]
Confidence = str  # how sure a published number or its set-up is, such as "inferred-teacher"; the table prints it as it is


class Part(BaseModel):
    """Base of the record's parts: unknown fields refused, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Published(Part):
    """A printed number in the unit of its metric. tolerance: difference up to which a measured one reproduces it; None: never judged."""

    value: float
    tolerance: float | None = None
    confidence: Confidence | None = None
    remark: str | None = None


class Column(Part):
    """A metric and its printed title. better: which way is good; None where neither is (a count)."""

    metric: str
    title: str
    decimals: int = 1
    better: Literal["higher", "lower"] | None = "higher"


class Difference(Part):
    """A row that is one row minus another, by their ids."""

    of: str
    minus: str


class Row(Part):
    """A printed row.

    id: unique in the table, never made from what is shown. trials: names of the trainings whose metrics it shows, one a seed (empty for
    a difference). measurements: names of the jobs that complete their metrics. baseline: id of the row that gains are told against.
    published: by metric. line: where the source prints it. values: what a search drew for it. hidden: a teacher that the paper does not
    print, told below the table.
    """

    id: str
    title: str
    group: str | None = None
    role: Role | Literal["difference"]
    trials: tuple[str, ...] = ()
    measurements: tuple[str, ...] = ()
    difference: Difference | None = None
    baseline: str | None = None
    published: dict[str, Published] = {}
    line: str | None = None
    confidence: Confidence | None = None
    remark: str | None = None
    values: dict[str, object] = {}
    hidden: bool = False


class Goal(Part):
    """What a search is for: a metric, by the mean over the seeds or the worse end of its 95% interval. less: small values are wanted."""

    metric: str
    over: Literal["mean", "lower"] = "mean"
    less: bool = False


class Tried(Part):
    """A combination that a search tried. outcome: done, stopped or failed; None while it has no end. goals: its value in each, where it is
    done."""

    number: int
    values: dict[str, object]
    trials: tuple[str, ...] = ()
    outcome: str | None = None
    goals: tuple[float, ...] = ()


class Searched(Part):
    """An arm that is searched. default: id of the row of the arm as it is. planned: how many combinations are to be tried. found: ids of
    the rows of the best, trained anew with fresh seeds; empty before they are known. tried: filled in when it is read."""

    arm: str
    title: str
    algorithm: str
    scheduler: str
    seed: int
    goals: tuple[Goal, ...]
    planned: int
    seeds: tuple[int, ...]
    confirm: tuple[int, ...]
    default: str
    found: tuple[str, ...] = ()
    tried: tuple[Tried, ...] = ()


class Source(Part):
    """The publication that a table is of. lines: what `Row.line` counts in."""

    paper: str
    title: str
    venue: str | None = None
    lines: str | None = None


class Presentation(Part):
    """The frozen layout of a study's table.

    table: id such as "zhang2021/table-3" where it is a paper's, else None. comparable: None where published numbers may be judged, else
    the reason why not (another scale or dataset).
    warnings: what a reader must know of how these trials were set up. notes: the table file's own.
    document: a table's file as it was submitted, one that ships by its id, so that a copy of the study is a table again; None where the
    spec says all.
    """

    version: Literal[1] = 1
    title: str
    table: str | None = None
    source: Source | None = None
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    searches: tuple[Searched, ...] = ()
    comparable: str | None = Field(None, description="why published numbers cannot be judged")
    variants: tuple[str, ...] = Field((), description="forms used where paper and released code disagree: 'LD (code)'")
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    document: dict[str, Any] | None = Field(None, exclude_if=lambda document: document is None)
