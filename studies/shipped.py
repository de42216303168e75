"""The studies that come with Retort, by id: one YAML file each, the id its file name without the ending.

They are read as data every time they are asked for; whoever wants another one writes a YAML file of their own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.documents import read_document
from studies.problems import Problem, SpecError


@dataclass(frozen=True)
class ShippedStudy:
    """A study file: its id, name, and the comment lines it opens with (what the study shows)."""

    id: str
    name: str
    about: str
    path: Path


def shipped_folder() -> Path:
    """Where the study files are: inside the package when installed, in `examples/` of a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "examples"
    return installed if installed.is_dir() else package.parent / "examples"


def shipped_studies() -> dict[str, ShippedStudy]:
    """All shipped studies by id, sorted."""
    folder = shipped_folder()
    return {study.id: study for path in sorted(folder.rglob("*.yaml")) for study in [_opened(path, folder)]}


def read_study_file(path: Path) -> Any:
    """The plain data of a YAML (or JSON) study file. Raises SpecError, also where the file cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError([Problem("", f"cannot read {path}: {reason}")]) from None
    return read_document(text, "json" if path.suffix == ".json" else "yaml")


def _opened(path: Path, folder: Path) -> ShippedStudy:
    data = read_study_file(path)
    comments = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comments.append(line.lstrip("# ").strip())
    return ShippedStudy(
        id=path.relative_to(folder).with_suffix("").as_posix(),
        name=str(data.get("name", path.stem)),
        about=" ".join(comments),
        path=path,
    )
