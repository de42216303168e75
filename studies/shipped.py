"""The studies that come with Retort, by id: the examples, one YAML file each, and every table of the papers ("zhang2021/table-3").

They are read as data every time they are asked for; whoever wants another one writes a YAML file of their own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.documents import read_document
from studies.problems import Problem, SpecError
from studies.tables.shipped import read_paper, read_table, table_ids


@dataclass(frozen=True)
class ShippedStudy:
    """A study that ships: its id, name, what it shows in a sentence or two, and its document."""

    id: str
    name: str
    about: str
    data: dict[str, Any]


def shipped_folder() -> Path:
    """Where the example files are: inside the package when installed, in `examples/` of a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "examples"
    return installed if installed.is_dir() else package.parent / "examples"


def shipped_studies() -> dict[str, ShippedStudy]:
    """All shipped studies by id: the examples, sorted, then the papers' tables."""
    folder = shipped_folder()
    examples = [_example(path, folder) for path in sorted(folder.rglob("*.yaml"))]
    return {study.id: study for study in (*examples, *map(_table, table_ids()))}


def shipped_study(study_id: str) -> ShippedStudy | None:
    """One of them, without reading the others."""
    if study_id in table_ids():
        return _table(study_id)
    folder = shipped_folder()
    path = next((path for path in folder.rglob("*.yaml") if _id(path, folder) == study_id), None)
    return _example(path, folder) if path else None


def shipped_ids() -> list[str]:
    """The ids alone."""
    folder = shipped_folder()
    return [*sorted(_id(path, folder) for path in folder.rglob("*.yaml")), *table_ids()]


def read_study_file(path: Path) -> Any:
    """The plain data of a YAML (or JSON) study file. Raises SpecError, also where the file cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError([Problem("", f"cannot read {path}: {reason}")]) from None
    return read_document(text, "json" if path.suffix == ".json" else "yaml")


def _id(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _example(path: Path, folder: Path) -> ShippedStudy:
    data = read_study_file(path)
    comments = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comments.append(line.lstrip("# ").strip())
    return ShippedStudy(_id(path, folder), str(data.get("name") or data.get("title") or path.stem), " ".join(comments), data)


def _table(table_id: str) -> ShippedStudy:
    data = read_table(table_id)
    assert data is not None
    paper = read_paper(data["paper"])
    told = f"{paper.short}, {paper.venue}" + ("; not one of the paper's own tables" if data.get("beyond") else "")
    return ShippedStudy(table_id, f"{data.get('label', table_id)}: {data['title']}", told, data)
