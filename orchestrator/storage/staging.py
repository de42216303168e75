"""What trials read beside each other's results, brought to a node once: datasets as one archive each, and weights that networks start from.

The driver's machine has datasets and fetched weights, and shares them; a backbone that was pretrained is shared by whoever did it first.
"""

import fcntl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from orchestrator.storage.cache import Cache
from orchestrator.storage.storage import Storage
from studies.trial import TrialFailure


def has_dataset(storage: Storage, digest: str) -> bool:
    """Whether a dataset was shared."""
    return storage.manifest(f"datasets/{digest}") is not None


def share_dataset(storage: Storage, digest: str, pack: Callable[[Path], None], scratch: Path) -> None:
    """Stores a dataset once, as the archive that `pack` writes. scratch: folder on a disk that has room for it."""
    if has_dataset(storage, digest):
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        archive = Path(folder) / "dataset.tar"
        pack(archive)
        storage.publish_first(f"datasets/{digest}", archive)


def stage_dataset(storage: Storage, digest: str, place: Path, unpack: Callable[[Path, Path], None]) -> None:
    """Brings a dataset to `place`, unless it is there; one process of this node does it, the others wait. Raises TrialFailure."""
    if place.exists():  # it appears as a whole
        return
    with _locked(place):
        if place.exists():
            return
        manifest = storage.manifest(f"datasets/{digest}")
        if manifest is None:
            raise TrialFailure("infra", f"dataset {place.name!r} with the digest {digest[:16]}... is not in the store {storage.url}")
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            archive = Path(folder) / "dataset.tar"
            storage.fetch(manifest.files[archive.name], archive)
            unpack(archive, place)


def share_weights(storage: Storage, files: Mapping[str, Path]) -> None:
    """Stores weights by name, once."""
    for name, path in files.items():
        storage.publish_first(f"weights/{name}", path)


def stored_weights(cache: Cache, name: str) -> Path | None:
    """Weights of that name on this node; None where nobody shared them."""
    manifest = cache.storage.manifest(f"weights/{name}")
    return next((cache.fetched(file, file_name) for file_name, file in manifest.files.items()), None) if manifest else None


def share_made(storage: Storage, path: Path, make: Callable[[], object]) -> None:
    """Brings a file to this node that whoever needs it first makes: where the store has none of its name, it is made and shared."""
    name = f"made/{path.name}"
    if path.exists():
        return
    manifest = storage.manifest(name)
    if manifest is None:
        make()
        manifest = storage.publish_first(name, path)
    storage.fetch(manifest.files[path.name], path)  # that of whoever was first, for all


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Alone on this node, whose disk it is."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f".{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
