"""The language of tables: what a table file says, one for the papers' tables and for a user's own.

A table is a study that is written as it is printed: rows in groups, published numbers beside them, and what a scale changes left to
`scales.yaml`. `studies.tables.compile` makes the study and its presentation of it.

    title: Comparison with other distillation methods
    paper: zhang2021                     # brings networks, teachers, dataset and tolerances of studies/tables/zhang2021/paper.yaml
    columns: [AP, AP50, {metric: APs, title: AP_S}]
    groups:
      - title: Faster RCNN
        student: faster_r50
        teacher: two_stage
        rows:
          baseline: {title: Faster RCNN, published: [38.4, 59.0, 21.5], line: 160}
          chen: {title: + Chen et al., distiller: chen2017, published: [38.7, 59.0, 22.0], line: 161, confidence: inferred-teacher}
          teacher: {teacher: two_stage, title: the teacher}
          gain: {of: chen, minus: baseline, published: [0.3, 0.0, 0.5]}
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from studies.catalog import Scale
from studies.spec import (
    Distillers,
    Measure,
    MetricName,
    OnBroken,
    PerDeviceImages,
    Precision,
    Resources,
    Schedule,
    Search,
    Slug,
    SpecModel,
    WeightsName,
    refuse,
)

RowRef = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+/-]*$")]
Title = Annotated[str, Field(min_length=1, max_length=200)]
MOST_ROWS = 500
Seeds = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, max_length=50)]
DatasetName = Annotated[str, Field(min_length=1, max_length=64)]


class NamedNetwork(SpecModel):
    """A network of a paper. recipe, schedule: how it trains at paper scale, where they hold alone; `width` holds at the narrow scales."""

    detector: str
    backbone: str
    form: str | None = None
    width: int | None = None
    recipe: str | None = None
    schedule: Schedule = Schedule()


class NamedTeacher(NamedNetwork):
    """A teacher of a paper. weights: those it has at paper scale."""

    weights: WeightsName | None = None
    seed: int = Field(0, ge=0, lt=2**31)


class PublishedCell(SpecModel):
    """A printed number with something to say of it. tolerance: instead of the table's; null: never judged."""

    value: float
    tolerance: float | None = Field(None, ge=0)
    confidence: str | None = Field(None, max_length=64)
    remark: str | None = Field(None, max_length=500)


class TableColumn(SpecModel):
    """A metric, and how the paper heads its column."""

    metric: MetricName
    title: Title | None = None


class TableRow(SpecModel):
    """A row. It is one of: an arm (default); the teacher's own (`teacher` without `distiller` and `student`); `same_as` a row of this table
    (its id) or of a shipped one (TABLE/ROW); the difference `of` one row `minus` another."""

    title: Title | None = None
    student: str | None = Field(None, description="name of a network, instead of the group's")
    teacher: str | None = Field(None, description="name of a teacher, instead of the group's")
    distiller: str | Distillers | None = None
    options: dict[str, Any] = {}
    weight: float = Field(1.0, ge=0, le=1e6)
    per_device_images: PerDeviceImages = Field(None, description="as the row was trained; null: as the distiller was published")
    schedule: Schedule = Field(Schedule(), description="at paper scale, instead of the student's")
    same_as: RowRef | None = None
    of: Slug | None = None
    minus: Slug | None = None
    baseline: Slug | None = Field(None, description="row that its gain is told against; default: the group's student without distiller")
    published: list[float | PublishedCell | None] | dict[str, float | PublishedCell | None] | None = None
    tolerance: dict[str, float | None] = {}
    line: str | int | None = Field(None, description="where the source prints it")
    confidence: str | None = Field(None, max_length=64)
    remark: str | None = Field(None, max_length=500)

    @model_validator(mode="after")
    def _one_kind(self) -> "TableRow":
        if (self.of is None) != (self.minus is None):
            raise refuse("difference", "a difference has both `of` and `minus`")
        trains = self.distiller is not None or self.student is not None or bool(self.options) or self.per_device_images is not None
        if sum((trains, self.same_as is not None, self.of is not None)) > 1:
            raise refuse("kind", "one of: an arm (student, distiller and what belongs to it), `same_as`, or `of` and `minus`")
        if self.teacher is not None and (self.same_as or self.of):
            raise refuse("kind", "a row that is `same_as` another or a difference has no teacher of its own")
        return self

    @property
    def is_teacher(self) -> bool:
        """Whether it is a teacher's own row."""
        return self.teacher is not None and self.distiller is None and self.student is None


class TableGroup(SpecModel):
    """Rows under a heading, with what they share."""

    title: Title | None = None
    student: str | None = None
    teacher: str | None = None
    rows: dict[Slug, TableRow] = Field(min_length=1, max_length=200)


class ScaleChange(SpecModel):
    """What a scale says of a study; what it leaves out stays."""

    dataset: DatasetName | None = None
    seeds: Seeds | None = None
    schedule: Schedule = Schedule()
    resources: Resources | None = None


class PaperFile(SpecModel):
    """`paper.yaml`: what the tables of a paper share. dataset, resources: at paper scale. tolerance: by metric, null: never judged."""

    key: Slug
    title: Title
    venue: Title | None = None
    short: Title = Field(description="how a table is named: SHORT Table 3")
    lines: str | None = Field(None, description="what the rows' `line` counts in")
    dataset: DatasetName | None = None
    resources: Resources | None = None
    tolerance: dict[str, float | None] = {}
    networks: dict[Slug, NamedNetwork] = {}
    teachers: dict[Slug, NamedTeacher] = {}


class TableFile(SpecModel):
    """A table. Without `groups`, its rows stand in one group without a heading."""

    id: RowRef | None = Field(None, description="id of the shipped table that this is: PAPER/table-N")
    title: Title
    paper: Slug | None = Field(None, description="a paper that ships, whose networks, teachers and tolerances it uses")
    label: Title | None = Field(None, description="as the paper numbers it: Table 3")
    kind: Literal["table", "figure"] = "table"
    beyond: bool = Field(False, description="not one of the paper's own tables")
    dataset: DatasetName | None = Field(None, description="at paper scale")
    resources: Resources | None = Field(None, description="at paper scale")
    networks: dict[Slug, NamedNetwork] = Field({}, max_length=200)
    teachers: dict[Slug, NamedTeacher] = Field({}, max_length=200)
    columns: list[MetricName | TableColumn] = Field(min_length=1, max_length=40)
    tolerance: dict[str, float | None] = {}
    student: str | None = None
    teacher: str | None = None
    groups: list[TableGroup] = Field([], max_length=100)
    rows: dict[Slug, TableRow] = Field({}, max_length=200)
    search: Search | None = None
    measure: list[Measure] = Field([], max_length=20, description="what to measure of the finished trainings; `arms` are ids of rows")
    scale: Scale = "nano"
    seeds: Seeds | None = Field(None, description="at every scale")
    scales: dict[Scale, ScaleChange] = {}
    on_broken: OnBroken = "stop"
    precision: Precision = "fp32"
    force: bool = False
    notes: list[Annotated[str, Field(max_length=1000)]] = []

    @model_validator(mode="after")
    def _rows_once(self) -> "TableFile":
        if bool(self.groups) == bool(self.rows):
            raise refuse("rows", "either `groups`, each with rows, or `rows`")
        ids = [row for group in self.groups for row in group.rows]
        seen: set[str] = set()
        twice = next((row for row in ids if row in seen or seen.add(row)), None)  # type: ignore[func-returns-value]
        if twice:
            raise refuse("rows", f"row id {twice!r} is used twice")
        if len(ids) > MOST_ROWS:
            raise refuse("rows", f"{len(ids)} rows; at most {MOST_ROWS}")
        return self

    @property
    def all_groups(self) -> list[TableGroup]:
        """Its groups; for a table without any, one with all rows."""
        return self.groups or [TableGroup(rows=self.rows)]

    @property
    def all_columns(self) -> list[TableColumn]:
        return [TableColumn(metric=c) if isinstance(c, str) else c for c in self.columns]
