"""Which reader reads which dataset, where its files must lie, and where they come from."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studies.datasets import InstalledDataset, Registration, RegistrationError, installed_datasets, read_registration
from studies.trial import TrialFailure
from workers.datasets import cityscapes, coco, voc
from workers.datasets.split import Split
from workers.files import file_sha256

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Source:
    """A dataset's files. read(split) gives what is there; origin completes "it comes from ..."; stated: what a registration says,
    or which code reads it."""

    root: Path
    origin: str
    read: Callable[[str], Split]
    mirror: bool = True
    stated: dict[str, Any] = field(default_factory=dict)


def source(name: str, data: Path) -> Source:
    """The files of a dataset that is not made here. Raises TrialFailure("data") for a name that nothing is known of.

    data: the folder of the datasets; registrations are beside it, in `datasets/`.
    """
    folder = data / name
    if name == "coco":
        return Source(
            folder,
            "https://cocodataset.org/#download: unpack train2017.zip, val2017.zip and annotations_trainval2017.zip there",
            lambda split: coco.read(folder, split, f"annotations/instances_{split}2017.json", f"{split}2017"),
        )
    if name == "voc":
        return Source(
            folder,
            "http://host.robots.ox.ac.uk/pascal/VOC/: unpack VOCtrainval_06-Nov-2007.tar, VOCtest_06-Nov-2007.tar and "
            "VOCtrainval_11-May-2012.tar there, into one VOCdevkit",
            lambda split: voc.read(folder, split),
        )
    if name == "cityscapes":
        return Source(
            folder,
            "https://www.cityscapes-dataset.com/downloads/ (asks for an account): unpack leftImg8bit_trainvaltest.zip and "
            "gtFine_trainvaltest.zip there",
            lambda split: cityscapes.read(folder, split),
        )
    if name in installed_datasets():
        return _installed(installed_datasets()[name], folder)
    try:
        registration = read_registration(name, data.parent)
    except RegistrationError as error:
        raise TrialFailure("data", str(error)) from error
    if registration is None:
        raise TrialFailure("data", f"dataset {name!r} is not known here: no {data.parent / 'datasets' / name}.yaml")
    return _registered(registration, data.parent / "datasets" / f"{name}.yaml")


def _installed(installed: InstalledDataset, folder: Path) -> Source:
    """A package's dataset. Its reader's code is stated too: another reader may read the same files otherwise."""
    module, _, function = installed.reader.partition(":")
    try:
        reader = importlib.import_module(module)
        read = getattr(reader, function)
    except (ImportError, AttributeError) as error:
        raise TrialFailure("data", f"the reader {installed.reader} of dataset {installed.dataset.id!r} cannot be had: {error}") from error
    stated = {"reader": installed.reader, "code": file_sha256(Path(str(reader.__file__)))}
    return Source(folder, installed.origin, lambda split: read(folder, split), installed.mirror, stated)


def _registered(registration: Registration, path: Path) -> Source:
    root, files = registration.root, {"train": registration.train, "val": registration.val}

    def read(split: str) -> Split:
        return coco.read(root, split, files[split].annotations, files[split].images, registration.classes)

    return Source(root, f"whoever registered it in {path}", read, registration.mirror, registration.model_dump(mode="json"))
