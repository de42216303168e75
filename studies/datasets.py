"""Datasets beside the catalogue's: those that installed packages read, and a user's own in COCO's format.

A package's come through the entry point group `retort.datasets`, each with a reader of its files. One in COCO's format is a YAML file
under `$RETORT_HOME/datasets/`, put there on the server. A spec names a dataset by the file's name; a path never travels in a request.
`datasets()` is the catalogue with them.

    # $RETORT_HOME/datasets/pets.yaml
    title: Pets of our street
    root: /srv/pets                 # absolute, or relative to this file
    classes: [cat, dog]             # names of the annotation files' categories, in the order of the labels
    train: {annotations: train.json, images: train}
    val: {annotations: val.json, images: val}
"""

import functools
import json
import logging
import re
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from studies.catalog import DATASETS, Dataset
from studies.home import retort_home

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InstalledDataset:
    """A dataset that a package reads.

    dataset: its entry in the catalogue. reader: "module:function", called with (root, split), split "train" or "val"; gives a
    `workers.datasets.split.Split`. origin: completes "it comes from ...". mirror: whether a mirrored image is still a valid one.
    """

    dataset: Dataset
    reader: str
    origin: str
    mirror: bool = True


class RegistrationError(ValueError):
    """A dataset's YAML file that cannot be used, with the reason in one sentence."""


class SplitFiles(BaseModel):
    """A split's annotation file and image folder, relative to the root."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    annotations: str
    images: str


class Registration(BaseModel):
    """What the YAML file of a dataset says. `mirror`: whether a mirrored image is still a valid one (letters are not)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: Annotated[str, Field(min_length=1, max_length=120)]
    root: Path
    classes: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=10_000)]
    train: SplitFiles
    val: SplitFiles
    mirror: bool = True

    @field_validator("classes")
    @classmethod
    def _unique(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("the same class twice")
        return value


def read_registration(name: str, home: Path) -> Registration | None:
    """The dataset registered as `name` under `home`, its root absolute; None where there is no such file. Raises RegistrationError."""
    path = home / "datasets" / f"{name}.yaml"
    if not NAME.fullmatch(name) or not path.is_file():
        return None
    if name in DATASETS or name in installed_datasets():
        raise RegistrationError(f"{path}: the name {name!r} is taken by a dataset of the catalogue; rename the file")
    try:
        content = yaml.safe_load(path.read_text())
        if not isinstance(content, dict):
            raise RegistrationError(f"{path}: a registration is a mapping with {', '.join(Registration.model_fields)}")
        registration = Registration.model_validate(content)
    except ValidationError as error:
        told = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors(include_url=False)]
        raise RegistrationError(f"{path}: {'; '.join(told)}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RegistrationError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    return registration.model_copy(update={"root": (path.parent / registration.root).resolve()})


def datasets() -> dict[str, Dataset]:
    """The catalogue's datasets, those of installed packages and those registered here. What cannot be used is left out, with a warning
    in the log."""
    home = retort_home()
    found = DATASETS | {name: installed.dataset for name, installed in installed_datasets().items()}
    for path in sorted((home / "datasets").glob("*.yaml")):
        try:
            registration = read_registration(path.stem, home)
        except RegistrationError as error:
            log.warning("%s", error)
            continue
        if registration:
            found[path.stem] = _as_checked(
                Dataset(path.stem, registration.title, len(registration.classes), None, None, None), registration
            )
    return found


@functools.cache
def installed_datasets() -> dict[str, InstalledDataset]:
    """The datasets of installed packages by id; a broken add-on must not take the service down."""
    found = dict[str, InstalledDataset]()
    for point in entry_points(group="retort.datasets"):
        try:
            installed = point.load()
        except Exception as error:
            log.warning("dataset %s (%s) is left out: %s", point.name, point.value, error)
            continue
        if not isinstance(installed, InstalledDataset) or installed.dataset.id in {**DATASETS, **found}:
            log.warning("dataset %s (%s) is left out: not an InstalledDataset, or its id is taken", point.name, point.value)
            continue
        found[installed.dataset.id] = installed
    return found


def _as_checked(dataset: Dataset, registration: Registration) -> Dataset:
    """With what the dataset's check found, where it checked what is registered now."""
    try:
        manifest = json.loads((retort_home() / "data" / dataset.id / "manifest.json").read_text())
        if manifest["source"] != registration.model_dump(mode="json"):
            return dataset
        images = manifest["images"]
        return replace(dataset, train_images=images["train"], val_images=images["val"], masks=manifest["masks"])
    except (OSError, ValueError, KeyError, TypeError):
        return dataset
