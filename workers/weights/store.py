"""The store of pretrained weights, `$RETORT_HOME/weights`: ImageNet backbones and trained detectors, each with its source and sha256.

A trial reads from the store and never from the network; `fetch` and `import_file` fill it, when a person says so.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib
import importlib.util
import json
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import yaml

from studies.trial import TrialFailure

if TYPE_CHECKING:
    from torch import Tensor

TORCHVISION = "https://download.pytorch.org/models"
OPENMMLAB = "https://mmassets.onedl.ai/pretrain/third_party"
# The files that the zoo's configs and PDF-Distil start from. A name holds the first digits of its sha256.
IMAGENET = {
    "imagenet/resnet18": f"{TORCHVISION}/resnet18-f37072fd.pth",
    "imagenet/resnet34": f"{TORCHVISION}/resnet34-b627a593.pth",
    "imagenet/resnet50": f"{TORCHVISION}/resnet50-0676ba61.pth",
    "imagenet/resnet101": f"{TORCHVISION}/resnet101-63fe2227.pth",
    "imagenet/resnet50_caffe": f"{OPENMMLAB}/resnet50_caffe-788b5fa3.pth",
    "imagenet/resnet50_msra": f"{OPENMMLAB}/resnet50_msra-5891d200.pth",
    "imagenet/resnet101_caffe": f"{OPENMMLAB}/resnet101_caffe-3ad79236.pth",
    "imagenet/resnext101_32x4d": f"{OPENMMLAB}/resnext101_32x4d-a5af3160.pth",
    "imagenet/resnext101_64x4d": f"{OPENMMLAB}/resnext101_64x4d-ee2c6f71.pth",
    "imagenet/regnetx_800mf": f"{OPENMMLAB}/regnetx_800mf-1f4be4c7.pth",
    "imagenet/darknet53": f"{OPENMMLAB}/darknet53-a628ea1b.pth",
    "imagenet/vgg16": f"{OPENMMLAB}/vgg16_caffe-292e1171.pth",
    "imagenet/shufflenetv2_0.5": f"{TORCHVISION}/shufflenetv2_x0.5-f707e7126e.pth",
    "imagenet/shufflenetv2_1.0": f"{TORCHVISION}/shufflenetv2_x1-5666bf0f80.pth",
}
NAME = re.compile(r"[a-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?")
HASHED = re.compile(r"[-_]([0-9a-f]{8,64})\.pth?$")
TIMEOUT = 60  # seconds without a byte


class WeightsError(ValueError):
    """Weights that cannot be had or must not be taken, with the reason in one sentence."""


@dataclass(frozen=True)
class Entry:
    """Weights in the store. source: address or file they came from. sha256: of the file, hex. bytes: its size."""

    name: str
    source: str
    sha256: str
    bytes: int


class Store:
    """Weights under one folder: `<name>.pth`, and `manifest.json` with an Entry each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self) -> dict[str, Entry]:
        """What the manifest lists, by name."""
        try:
            listed = json.loads((self.folder / "manifest.json").read_text())
        except FileNotFoundError:
            return {}
        return {name: Entry(name=name, **entry) for name, entry in sorted(listed.items())}

    def path(self, name: str) -> Path:
        """Where the file of these weights lies, or would."""
        return self.folder / f"{name}.pth"

    def state(self, entry: Entry) -> str:
        """Whether the file is what the manifest says: "present", "missing" or "changed"."""
        path = self.path(entry.name)
        if not path.is_file():
            return "missing"
        return "present" if _sha256(path) == entry.sha256 else "changed"

    def fetch(self, name: str, address: str | None = None, told: Callable[[int, int | None], None] = lambda done, of: None) -> Entry:
        """Downloads weights to the store, or finds them there. Raises WeightsError.

        address: where from, for a name that is neither in IMAGENET nor of the zoo (`zoo/<config>`). told: bytes done, of how many.
        """
        _check_name(name)
        present = self._present(name)
        if present and address in (None, present.source):
            return present
        source = address or address_of(name)
        if not source.startswith("https://"):
            raise WeightsError(f"{source} is no https address; for a file of this machine: retort weights import {name} FILE")
        with self._unfinished(name) as path:
            try:
                with urllib.request.urlopen(source, timeout=TIMEOUT) as answer, path.open("wb") as file:
                    _copy(answer, file, answer.headers.get("Content-Length"), told)
            except (urllib.error.URLError, OSError) as error:
                raise WeightsError(
                    f"{name} could not be fetched from {source}: {error}; where another machine can, "
                    f"take the file from there and run: retort weights import {name} FILE"
                ) from error
            return self._take(name, path, source)

    def import_file(self, name: str, file: Path) -> Entry:
        """Copies a file of this machine to the store. Raises WeightsError."""
        _check_name(name)
        if not file.is_file():
            raise WeightsError(f"there is no file {file}")
        with self._unfinished(name) as path:
            shutil.copyfile(file, path)
            return self._take(name, path, str(file.resolve()))

    def find(self, name: str, who: str) -> Path:
        """The file of these weights. Raises TrialFailure("user") with the command that gets them; `who` needs them."""
        entry = self.entries().get(name)
        state = self.state(entry) if entry else "missing"
        if state == "present":
            return self.path(name)
        what = "are not in the store" if state == "missing" else "are not the file that the store took"
        way = f"retort weights fetch {name}" if _is_known(name) else f"retort weights import {name} FILE"
        raise TrialFailure("user", f"{who} needs the weights {name!r}, which {what} {self.folder}; get them with: {way}")

    def _present(self, name: str) -> Entry | None:
        entry = self.entries().get(name)
        return entry if entry and self.state(entry) == "present" else None

    def _take(self, name: str, unfinished: Path, source: str) -> Entry:
        """Puts a complete file in its place, if it is what it should be."""
        entry = Entry(name, source, _sha256(unfinished), unfinished.stat().st_size)
        published = address_of(name) if _is_known(name) else source if source.startswith("https://") else ""
        expected = HASHED.search(published)
        if expected and not entry.sha256.startswith(expected[1]):
            file = published.rsplit("/", 1)[-1]
            raise WeightsError(f"{source} is not the file published as {file}: its sha256 is {entry.sha256[:16]}..., not {expected[1]}...")
        present = self._present(name)
        if present and present.sha256 != entry.sha256:
            raise WeightsError(f"{name} is in the store already, from {present.source}, and is another file; choose another name")
        read_state(unfinished)
        with self._locked():
            unfinished.replace(self.path(name))
            listed = {each.name: _content(each) for each in self.entries().values()} | {name: _content(entry)}
            beside = self.folder / f".manifest-{os.getpid()}"
            beside.write_text(json.dumps(listed, indent=1, sort_keys=True))
            beside.replace(self.folder / "manifest.json")
        return entry

    @contextmanager
    def _unfinished(self, name: str) -> Iterator[Path]:
        """A place beside the file's, gone afterwards unless it was moved."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}-{os.getpid()}")
        try:
            yield unfinished
        finally:
            unfinished.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def store_beside(data: Path) -> Store:
    """The store of the home whose datasets are under `data`."""
    return Store(data.parent / "weights")


def address_of(name: str) -> str:
    """Where known weights are published. Raises WeightsError."""
    if name in IMAGENET:
        return IMAGENET[name]
    address = zoo().get(name.removeprefix("zoo/")) if name.startswith("zoo/") else None
    if address is None:
        raise WeightsError(
            f"no address is known for {name!r}; known are {', '.join(IMAGENET)} and zoo/CONFIG for every config of mmdet's zoo; "
            "any other with --from ADDRESS"
        )
    return address


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, read without running any code that it might hold. Raises WeightsError."""
    import numpy as np
    import torch
    from mmengine.logging import HistoryBuffer

    # What checkpoints of the zoo hold beside tensors: numbers of numpy, by their old and new names, and the log of their training.
    numbers = importlib.import_module("numpy._core.multiarray")
    harmless: list[Any] = [HistoryBuffer, (_of_history, "builtins.getattr"), np.ndarray, np.dtype, numbers.scalar, numbers._reconstruct]
    harmless += [(numbers.scalar, "numpy.core.multiarray.scalar"), (numbers._reconstruct, "numpy.core.multiarray._reconstruct")]
    harmless += [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "u4", "?")]
    try:
        with torch.serialization.safe_globals(harmless):
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"the file is no checkpoint that can be read safely: {str(error).splitlines()[0]}") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)} if isinstance(state, dict) else {}
    if not tensors:
        raise WeightsError("the file holds no tensors by name")
    return tensors


def _of_history(owner: Any, name: str) -> Any:
    """Stands for `getattr` where a checkpoint is read: a training log names its own methods, nothing else may be reached."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in {"min", "max", "current", "mean"}:
        raise ValueError(f"it reaches for {name}")
    return getattr(HistoryBuffer, name)


def zoo_config_of(name: str) -> str | None:
    """The config of mmdet's zoo (`<family>/<config>.py`) whose weights `name` means, from the files installed with the library."""
    config = name.removeprefix("zoo/")
    found = sorted(_zoo().glob(f"*/{config}.py")) if name.startswith("zoo/") else []
    return f"{found[0].parent.name}/{config}.py" if found else None


def _zoo() -> Path:
    installed = importlib.util.find_spec("mmdet")
    folders = installed.submodule_search_locations if installed else None
    return Path(next(iter(folders or ("there is no mmdet here",)))) / ".mim" / "configs"


@functools.cache
def zoo() -> dict[str, str]:
    """The checkpoint that mmdet's zoo publishes for each of its configs, by name, from the files installed with the library."""
    found: dict[str, str] = {}
    for path in sorted(_zoo().glob("*/metafile.yml")):
        content = yaml.safe_load(path.read_text())
        for model in content.get("Models") or [] if isinstance(content, dict) else content:
            if isinstance(model.get("Weights"), str):  # a tracker's are several
                found.setdefault(model["Name"], model["Weights"])
    return found


def _is_known(name: str) -> bool:
    return name in IMAGENET or name.startswith("zoo/")


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise WeightsError(f"{name!r} is no name for weights: letters, digits, _ . - and one / at most (imagenet/resnet50)")


def _copy(answer: Any, file: IO[bytes], length: str | None, told: Callable[[int, int | None], None]) -> None:
    done, whole = 0, int(length) if length else None
    while chunk := answer.read(1 << 20):
        file.write(chunk)
        done += len(chunk)
        told(done, whole)
    if whole is not None and done != whole:
        raise OSError(f"the connection ended after {done:,} of {whole:,} bytes")


def _content(entry: Entry) -> dict[str, Any]:
    return {key: value for key, value in asdict(entry).items() if key != "name"}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
