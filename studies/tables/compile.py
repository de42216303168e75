"""From a table to what runs and what is shown: the study of its trainings at a scale, and the presentation of its rows. Pure.

table, paper.yaml, scales.yaml  ->  StudySpec (arms)  ->  rows and trials
                                ->  Presentation (rows as printed, published numbers, tolerances)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from studies.catalog import COSTS, Scale
from studies.expand import Expansion, PlannedRow, expand
from studies.parse import parse_study
from studies.presentation import Difference, Presentation, Published, Row, Source
from studies.problems import Problem, SpecError, nearest, problems_of
from studies.spec import Schedule, StudySpec
from studies.tables.document import NamedNetwork, NamedTeacher, PaperFile, PublishedCell, ScaleChange, TableFile, TableGroup, TableRow
from studies.tables.present import baseline_of, column_of, row_of, variants_of, warnings_of
from studies.tables.shipped import read_paper, read_scales, read_table

TOLERANCE = {"coco": 0.2}  # of percent, by dataset; the smaller ones scatter more
TOLERANCE_ELSEWHERE = 0.4
TOLERANCE_OF = {"Params": 0.02, "FLOPs": None, "FPS": None, "D_pred": None}  # of metrics that are no percent
MOST_ARMS = 200  # of a study
HOW = {"id", "scale", "seeds", "scales", "resources", "force", "on_broken", "precision"}  # fields that leave a table the paper's own


def compile_table(data: Mapping[str, Any]) -> tuple[StudySpec, Expansion, Presentation]:
    """What a table document becomes at its scale. Raises SpecError, which names the rows and networks of the document."""
    return _Compiler(_Context.of(read_document_as(TableFile, data))).compiled(data)


def read_document_as(model: type[Any], data: Any) -> Any:
    """`data` as one of the language's documents. Raises SpecError."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise SpecError(problems_of(error, (), model)) from None


@dataclass(frozen=True)
class _Context:
    """A table with what its paper lends it."""

    table: TableFile
    paper: PaperFile | None
    networks: dict[str, NamedNetwork]
    teachers: dict[str, NamedTeacher]

    @classmethod
    def of(cls, table: TableFile) -> "_Context":
        paper = read_paper(table.paper) if table.paper else None
        shared = (paper.networks, paper.teachers) if paper else ({}, {})
        return cls(table, paper, {**shared[0], **table.networks}, {**shared[1], **table.teachers})

    @property
    def dataset(self) -> str | None:
        """The dataset that its numbers are of."""
        return self.table.dataset or (self.paper.dataset if self.paper else None)

    def row(self, name: str) -> tuple[TableGroup, TableRow] | None:
        return next(((group, group.rows[name]) for group in self.table.all_groups if name in group.rows), None)


@dataclass(frozen=True)
class _Arm:
    """A row that trains, in the words of the table that says it: another one for a row that is `same_as` one of there."""

    context: _Context
    group: TableGroup
    row: TableRow
    where: str  # path of the row in the document

    @property
    def student(self) -> str | None:
        return self.row.student or self.group.student or self.context.table.student

    @property
    def teacher(self) -> str | None:
        return self.row.teacher or self.group.teacher or self.context.table.teacher


class _Compiler:
    def __init__(self, context: _Context) -> None:
        self.context = context
        self.table = context.table
        self.scale: Scale = self.table.scale
        self.problems: list[Problem] = []
        self.where = {  # path in the document of each row, by its id
            name: f"groups.{index}.rows.{name}" if self.table.groups else f"rows.{name}"
            for index, group in enumerate(self.table.all_groups)
            for name in group.rows
        }
        self.arms: dict[str, _Arm] = {}  # by row id, in the order of the table
        self.same: dict[str, str] = {}  # a row that is the same as another of this table -> that one

    def compiled(self, data: Mapping[str, Any]) -> tuple[StudySpec, Expansion, Presentation]:
        for group in self.table.all_groups:
            for name, row in group.rows.items():
                self._gather(name, _Arm(self.context, group, row, self.where[name]))
        self._check_references()
        spec = {} if self.problems else self._spec()
        if self.problems:
            raise SpecError(self.problems)
        try:
            study = parse_study(spec)
        except SpecError as refused:
            raise SpecError(list(dict.fromkeys(Problem(self._place(p.field), p.message) for p in refused.problems))) from None
        expansion = expand(study)
        return study, expansion, self._presentation(data, study, expansion)

    # --- the study

    def _gather(self, name: str, arm: _Arm) -> None:
        """Notes the arm that a row trains, following `same_as` into other tables."""
        row = arm.row
        if row.of or row.is_teacher:
            return
        if row.same_as is None:
            self.arms[name] = arm
        elif "/" not in row.same_as:
            self.same[name] = row.same_as
        else:
            found = _elsewhere(row.same_as, arm.where)
            if isinstance(found, Problem):
                self.problems.append(found)
            else:
                self.arms[name] = found

    def _check_references(self) -> None:
        known = self.where
        for group in self.table.all_groups:
            for name, row in group.rows.items():
                where = known[name]
                for field in ("of", "minus", "baseline", "same_as"):
                    target = getattr(row, field)
                    if target and "/" not in target and target not in known:
                        self._refuse(f"{where}.{field}", f"no row {target!r} in this table", nearest(target, known))
                    elif target and field != "same_as" and (found := self.context.row(target)) and found[1].of:
                        self._refuse(f"{where}.{field}", f"row {target!r} is a difference itself; name a row with numbers of its own")
                if row.baseline == name:
                    self._refuse(f"{where}.baseline", "a row gains nothing over itself; name another row")
                if isinstance(row.published, list) and len(row.published) != len(self.table.columns):
                    self._refuse(
                        f"{where}.published",
                        f"{len(row.published)} numbers for {len(self.table.columns)} columns; null where none is printed",
                    )
                if isinstance(row.published, dict) and (strange := row.published.keys() - {c.metric for c in self.table.all_columns}):
                    self._refuse(f"{where}.published.{min(strange)}", "no column of this table")
                if row.is_teacher and row.teacher not in self.context.teachers:
                    self._refuse(f"{where}.teacher", f"no teacher {row.teacher!r}", nearest(str(row.teacher), self.context.teachers))
        for name, target in self.same.items():
            if target in known and target not in self.arms:
                self._refuse(f"{known[name]}.same_as", f"row {target!r} trains nothing of its own; name the row that it is the same as")
        if not self.arms and not self.problems:
            self._refuse("rows", "no row trains anything")
        if len(self.arms) > MOST_ARMS:
            self._refuse("groups", f"{len(self.arms)} rows that train; at most {MOST_ARMS}")

    def _refuse(self, field: str, message: str, near: str | None = None) -> None:
        self.problems.append(Problem(field, message + (f"; did you mean {near!r}?" if near else "")))

    def _spec(self) -> dict[str, Any]:
        """The study as its author would have written it at this scale."""
        change = self._of_scale()
        arms = [arm for name in self.arms if (arm := self._arm(name))]
        paper, label = self.context.paper, self.table.label
        name = f"{paper.short} {label}: {self.table.title}" if paper and label else self.table.title
        if self.table.search and self.table.search.algorithm:
            self._refuse("search.algorithm", "a table's rows are known from the beginning; a study of arms can be searched")
        if change.dataset is None:
            self._refuse("dataset", f"name the dataset at scale {self.scale}")
        if self.problems:
            return {}
        spec: dict[str, Any] = {
            "name": name[:200],
            "scale": self.scale,
            "dataset": change.dataset,
            "schedule": change.schedule.model_dump(exclude_none=True),
            "student": arms[0]["student"],
            "arms": arms,
            "metrics": [column.metric for column in self.table.all_columns],
            "on_broken": self.table.on_broken,
            "precision": self.table.precision,
            "force": self.table.force,
        }
        if change.seeds:
            spec["seeds"] = change.seeds
        if change.resources:
            spec["resources"] = change.resources.model_dump()
        if self.table.measure:
            spec["measure"] = [measure.model_dump() for measure in self.table.measure]
        if self.table.search:
            spec["search"] = self.table.search.model_dump(exclude_none=True)
        return spec

    def _of_scale(self) -> ScaleChange:
        """What holds at this scale: the document's own word first, then (at paper scale) the paper's, then that of all tables."""
        usual, own = read_scales().get(self.scale, ScaleChange()), self.table.scales.get(self.scale, ScaleChange())
        stated = ScaleChange()
        if self.scale == "paper":
            resources = self.table.resources or (self.context.paper.resources if self.context.paper else None)
            stated = ScaleChange(dataset=self.context.dataset, resources=resources)
        return ScaleChange(
            dataset=own.dataset or stated.dataset or usual.dataset,
            seeds=own.seeds or self.table.seeds or usual.seeds,
            schedule=own.schedule.over(usual.schedule),
            resources=own.resources or stated.resources or usual.resources,
        )

    def _arm(self, name: str) -> dict[str, Any] | None:
        arm = self.arms[name]
        student = self._network(arm, "student", arm.student, arm.context.networks)
        teacher = self._network(arm, "teacher", arm.teacher, arm.context.teachers)
        if student is None:
            if arm.student is None:
                self._refuse(f"{arm.where}.student", "name a network: `student` of the row, its group or the table")
            return None
        spec: dict[str, Any] = {"id": name, "title": self._title(name), "student": self._as_student(student)}
        schedule = self._schedule(student, arm.row.schedule)
        if schedule:
            spec["schedule"] = schedule
        if teacher is not None:
            assert isinstance(teacher, NamedTeacher)
            taught = self._schedule(teacher, Schedule())
            spec["teacher"] = self._as_student(teacher) | {"seed": teacher.seed, "weights": teacher.weights, "schedule": taught}
        if arm.row.distiller is not None:
            distiller = arm.row.distiller
            listed = distiller if isinstance(distiller, str) else [u if isinstance(u, str) else u.model_dump() for u in distiller]
            spec["distiller"] = listed
        said = arm.row.model_dump(include={"options", "weight", "per_device_images"}, exclude_defaults=True)
        return spec | said

    def _network(self, arm: _Arm, role: str, name: str | None, known: Mapping[str, NamedNetwork]) -> NamedNetwork | None:
        if name is not None and name not in known:
            self._refuse(f"{arm.where}.{role}", f"no {'network' if role == 'student' else role} {name!r}", nearest(name, known))
        return known.get(name) if name else None

    def _as_student(self, network: NamedNetwork) -> dict[str, Any]:
        parts = {"detector": network.detector, "backbone": network.backbone, "form": network.form, "width": network.width}
        return {key: value for key, value in parts.items() if value is not None}

    def _schedule(self, network: NamedNetwork, own: Schedule) -> dict[str, Any]:
        """A network's schedule at this scale: what a paper states holds at its own alone."""
        if self.scale != "paper":
            return {}
        return own.over(network.schedule.over(Schedule(recipe=network.recipe))).model_dump(exclude_none=True)

    def _title(self, name: str) -> str:
        row = self.context.row(name)
        assert row is not None
        return (row[1].title or name)[:120]

    def _place(self, field: str) -> str:
        """The place in the document of a field of the study that was made of it."""
        parts = field.split(".")
        if parts[0] == "metrics":
            return ".".join(["columns", *parts[1:]])
        if parts[0] != "arms" or len(parts) < 2 or not parts[1].isdecimal():
            return field
        arm = list(self.arms.values())[int(parts[1])]
        if parts[2:3] in (["student"], ["teacher"]) and len(parts) > 3:
            kind, name = ("networks", arm.student) if parts[2] == "student" else ("teachers", arm.teacher)
            return ".".join([kind, str(name), *parts[3:]])
        return ".".join([arm.where, *parts[2:]])

    # --- the presentation

    def _presentation(self, data: Mapping[str, Any], study: StudySpec, expansion: Expansion) -> Presentation:
        paper = self.context.paper
        rows = list(self._rows(expansion))
        shown = {trial for row in rows for trial in row.trials}
        unseen = [row for row in expansion.rows if row.role == "teacher" and not {*row.trials} <= shown]
        hidden = [row_of(row, expansion.measured_by(row)).model_copy(update={"hidden": True}) for row in unseen]
        shipped = own_table(data)
        return Presentation(
            title=study.name,
            table=shipped,
            document=_submitted(data, shipped),
            source=Source(paper=paper.key, title=paper.title, venue=paper.venue, lines=paper.lines) if paper else None,
            columns=tuple(column_of(column.metric, column.title) for column in self.table.all_columns),
            rows=(*rows, *hidden),
            comparable=self._incomparable(study),
            variants=variants_of(expansion.rows),
            warnings=warnings_of(study, expansion.rows, {name: arm.row.per_device_images for name, arm in self.arms.items()}),
            notes=tuple(self.table.notes),
        )

    def _incomparable(self, study: StudySpec) -> str | None:
        """Why published numbers cannot be judged here."""
        if study.scale == "paper" and study.dataset == self.context.dataset:
            return None
        theirs = self.context.dataset or "another dataset"
        return f"the published numbers are of {theirs} at paper scale, these of {study.dataset} at scale {study.scale}"

    def _rows(self, expansion: Expansion) -> Iterable[Row]:
        planned = {row.id: row for row in expansion.rows}
        of_arm: dict[str, list[PlannedRow]] = {}
        for each in expansion.rows:
            of_arm.setdefault(each.id.partition("~")[0], []).append(each)
        for group in self.table.all_groups:
            baselines = [planned[self.same.get(name, name)] for name in group.rows if self.same.get(name, name) in planned]
            for name, row in group.rows.items():
                told = {"id": name, "title": row.title or name, "group": group.title, **self._told(row)}
                if row.of and row.minus:
                    yield Row(role="difference", difference=Difference(of=row.of, minus=row.minus), **told)
                elif row.is_teacher:
                    yield self._teacher(name, str(row.teacher), expansion).model_copy(update=told)
                else:
                    for each in of_arm[self.same.get(name, name)]:
                        baseline = row.baseline or baseline_of(each, baselines) or baseline_of(each, expansion.rows)
                        drawn = {"id": name + each.id[each.id.index("~") :], "title": each.title, "published": {}} if each.values else {}
                        yield row_of(each, expansion.measured_by(each), baseline).model_copy(update=told | drawn)

    def _told(self, row: TableRow) -> dict[str, Any]:
        """What a document says of a row beside its training."""
        line = None if row.line is None else str(row.line)
        return {"published": dict(self._published(row)), "line": line, "confidence": row.confidence, "remark": row.remark}

    def _published(self, row: TableRow) -> Iterable[tuple[str, Published]]:
        metrics = [column.metric for column in self.table.all_columns]
        listed = dict(zip(metrics, row.published, strict=True)) if isinstance(row.published, list) else row.published or {}
        for metric, cell in listed.items():
            if cell is None:
                continue
            said = cell if isinstance(cell, PublishedCell) else PublishedCell(value=cell)
            tolerance = said.tolerance if "tolerance" in said.model_fields_set else self._tolerance(row, metric)
            yield metric, Published(value=said.value, tolerance=tolerance, confidence=said.confidence, remark=said.remark)

    def _tolerance(self, row: TableRow, metric: str) -> float | None:
        for stated in (row.tolerance, self.table.tolerance, self.context.paper.tolerance if self.context.paper else {}, TOLERANCE_OF):
            if metric in stated:
                return stated[metric]
        return None if metric in COSTS else TOLERANCE.get(self.context.dataset or "", TOLERANCE_ELSEWHERE)

    def _teacher(self, name: str, teacher: str, expansion: Expansion) -> Row:
        """The row of a named teacher: that of an arm which it teaches."""
        taught = next((arm for arm in self.arms if self.arms[arm].row.distiller is not None and self._names(self.arms[arm], teacher)), None)
        if taught is None:
            raise SpecError(
                [Problem(f"{self.where[name]}.teacher", f"teacher {teacher!r} teaches no row of this table, so nothing of it is trained")]
            )
        first = next(row for row in expansion.rows if row.id.partition("~")[0] == taught)
        planned = next(row for row in expansion.rows if row.id == first.teacher)
        return row_of(planned, expansion.measured_by(planned))

    def _names(self, arm: _Arm, teacher: str) -> bool:
        """Whether an arm's teacher is the one that this table calls so."""
        return arm.teacher is not None and arm.context.teachers.get(arm.teacher) == self.context.teachers[teacher]


def _elsewhere(reference: str, where: str) -> _Arm | Problem:
    """The arm of a row TABLE/ROW of a shipped table."""
    table_id, _, name = reference.rpartition("/")
    data = read_table(table_id)
    if data is None:
        return Problem(f"{where}.same_as", f"no shipped table {table_id!r}")
    context = _Context.of(read_document_as(TableFile, data))
    found = context.row(name)
    if found is None:
        return Problem(f"{where}.same_as", f"table {table_id} has no row {name!r}")
    group, row = found
    if row.same_as:
        return _elsewhere(row.same_as if "/" in row.same_as else f"{table_id}/{row.same_as}", where)
    if row.of or row.is_teacher:
        return Problem(f"{where}.same_as", f"row {name!r} of {table_id} trains nothing of its own")
    return _Arm(context, group, row, where)


def _submitted(data: Mapping[str, Any], shipped: str | None) -> dict[str, Any]:
    """What a person wrote to get the document: all of it, or the id of a shipped table with what was asked for on top."""
    if shipped is None:
        return dict(data)
    own = read_table(shipped) or {}
    asked = {name: value for name, value in data.items() if name in HOW - {"id"} and value != own.get(name)}
    if "resources" in asked:  # a table's own are those at paper scale: a copy at another scale must not ask for the same devices
        scales = asked.get("scales", {})
        asked["scales"] = scales | {"paper": {"resources": asked.pop("resources")} | scales.get("paper", {})}
    return {"table": shipped, **asked}


def own_table(data: Mapping[str, Any]) -> str | None:
    """Id of the shipped table that a document is, whatever its scale and seeds; None for one that was changed, or is a user's own."""
    table_id = data.get("id")
    shipped = read_table(table_id) if isinstance(table_id, str) else None
    if shipped is None:
        return None
    same = {key: value for key, value in data.items() if key not in HOW} == {key: value for key, value in shipped.items() if key not in HOW}
    return str(table_id) if same else None
