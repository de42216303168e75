"""Detector families beside the catalogue's: those of installed packages, and those registered on this machine from an mmdet config.

A package's come through the entry point group `retort.detectors`. A registration is a YAML file of plain data that
`retort detectors add` writes on the server, `$RETORT_HOME/detectors/<name>.yaml`; no request names a config.
"""

import functools
import hashlib
import importlib.util
import json
import logging
import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from studies.catalog import AS_CONFIGURED, BACKBONES, DETECTORS, REGISTERED, TRAITS, Detector
from studies.home import retort_home

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")

log = logging.getLogger(__name__)


class OwnDetectorError(ValueError):
    """A registered detector that cannot be used, with the reason in one sentence."""


class OwnDetector(BaseModel):
    """What the file of a registered detector says. model: the mmdet model config, resolved. source: the config file it was made from.

    imports: modules that make the config's own parts known to mmdet.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: Annotated[str, Field(min_length=1, max_length=120)]
    source: str
    traits: frozenset[str]
    strides: tuple[int, ...]
    model: dict[str, Any]
    imports: tuple[str, ...] = ()

    @field_validator("traits")
    @classmethod
    def _known(cls, value: frozenset[str]) -> frozenset[str]:
        for name in value - TRAITS.keys():
            raise ValueError(f"there is no trait {name!r}; there are {', '.join(TRAITS)}")
        return value

    @property
    def digest(self) -> str:
        """sha256 (hex) of what makes its network."""
        return hashlib.sha256(json.dumps(self.model, sort_keys=True).encode()).hexdigest()


def own_detectors() -> dict[str, Detector]:
    """The families of installed packages and those registered on this machine, by id. What cannot be used is left out, with a warning."""
    found = dict(_installed())
    for path in sorted((retort_home() / "detectors").glob("*.yaml")):
        try:
            own = read_own_detector(path.stem)
        except OwnDetectorError as error:
            log.warning("%s", error)
            continue
        if path.stem not in found:
            about = f"registered here, from {own.source}"
            found[path.stem] = Detector(path.stem, own.title, about, own.traits, (AS_CONFIGURED,), own.strides, REGISTERED)
    return found


def path_of(name: str) -> Path:
    """Where the registration of a detector lies, or would. Raises OwnDetectorError for what is no name."""
    if not NAME.fullmatch(name):
        raise OwnDetectorError(f"{name!r} is no name for a detector: small letters, digits, _ . and -, 64 at most")
    if name in DETECTORS:
        raise OwnDetectorError(f"the name {name!r} is taken by a family of the catalogue; choose another")
    return retort_home() / "detectors" / f"{name}.yaml"


def read_own_detector(name: str) -> OwnDetector:
    """The detector registered as `name` on this machine. Raises OwnDetectorError."""
    path = path_of(name)
    try:
        written = path.stat()
    except OSError:
        raise OwnDetectorError(f"no detector {name!r} is registered here: there is no {path}") from None
    return _read(path, written.st_mtime_ns, written.st_size)


def made_of(detector: Detector) -> str:
    """What makes the networks of a family that is not the catalogue's: sha256 (hex) of its registration, or of its package's module."""
    if detector.config == REGISTERED:
        return read_own_detector(detector.id).digest
    found = importlib.util.find_spec(str(detector.config).split(":")[0])
    if found is None or found.origin is None:
        raise OwnDetectorError(f"the code of {detector.config} cannot be found; without it no trial of {detector.title} has an identity")
    return hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()


@functools.lru_cache(maxsize=256)
def _read(path: Path, written: int, size: int) -> OwnDetector:
    """The file's content as it is now."""
    try:
        content = yaml.safe_load(path.read_text())
        return OwnDetector.model_validate(content)
    except ValidationError as error:
        told = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors(include_url=False)]
        raise OwnDetectorError(f"{path}: {'; '.join(told)}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise OwnDetectorError(f"{path} cannot be read: {' '.join(str(error).split())}") from None


@functools.cache
def _installed() -> dict[str, Detector]:
    """Those of packages; a broken add-on must not take the service down."""
    found = dict[str, Detector]()
    for point in entry_points(group="retort.detectors"):
        try:
            detector = point.load()
        except Exception as error:
            log.warning("detector %s (%s) is left out: %s", point.name, point.value, error)
            continue
        told = _wrong(detector, {**DETECTORS, **found})
        if told:
            log.warning("detector %s (%s) is left out: %s", point.name, point.value, told)
            continue
        found[detector.id] = detector
    return found


def _wrong(detector: object, taken: dict[str, Detector]) -> str | None:
    if not isinstance(detector, Detector):
        return "not a Detector"
    if detector.id in taken:
        return f"the id {detector.id!r} is taken"
    if not detector.config or ":" not in detector.config:
        return "its config is not a 'module:function' that gives its mmdet config"
    unknown = [*(detector.traits - TRAITS.keys()), *(set(detector.backbones) - BACKBONES.keys())]
    return f"unknown trait or backbone {unknown[0]!r}" if unknown else None
