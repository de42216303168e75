"""The store of a cluster: a folder, or an object store that fsspec opens (s3://bucket/prefix), in which files are named by their sha256.

    objects/<sha256>                  files of results: what they are never changes
    <name>/<fence>/manifest.json      which files a name has (trials/<folder>, datasets/<digest>), as the holder of a lease left them
    <name>/<fence>/<sha256>           files that this holder may replace: the state of a training
    <name>/notes/<note>               small words for whoever works on it

Files are put first and the manifest last, in one put, so what a manifest names is there as a whole. The manifest of the greatest fence
counts: whoever lost a lease writes under its smaller number, which nobody reads. So no lock is needed, and none is taken.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

OBJECTS = "objects"
PATIENT = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 5, "mode": "standard"}}  # of requests to S3
_MANIFEST = "manifest.json"
_OF_FENCE = re.compile(r"(.*)/([0-9]{12})/([^/]+)")


class StorageError(Exception):
    """The store cannot do what it was asked: it is away, or refuses."""


class NotStored(StorageError):
    """There is no such object."""


class Damaged(StorageError):
    """An object is not what its name says."""


class LeaseOver(Exception):
    """A newer holder of the lease has written."""


@dataclass(frozen=True)
class File:
    """A stored file. sha256: hex, of its content. bytes: its size. key: where it is in the store."""

    sha256: str
    bytes: int
    key: str


@dataclass(frozen=True)
class Manifest:
    """The files of a name. fence: number of the lease they were written under. finished: whether they are results, and complete."""

    fence: int
    files: Mapping[str, File]
    finished: bool = False


class Storage:
    """The store at a URL or in a folder. Safe to use from several threads and processes at once."""

    def __init__(self, url: str) -> None:
        """Raises ValueError where the URL cannot be one of a store."""
        self.url = url
        self._fs, self._root = _opened(url)
        self._is_folder = "file" in _protocols(self._fs)

    # --- files

    def put(self, path: Path, name: str | None = None, fence: int = 0) -> File:
        """Stores a file as it is in this moment, though it be replaced meanwhile. name, fence: of whose state it is; else an object."""
        with _held(path) as still, still.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
            key = _place(name, fence, digest)
            with self._asked(key):
                self._whole(key, lambda target: self._fs.put_file(str(still), target))
            return File(digest, still.stat().st_size, key)

    def put_bytes(self, content: bytes, name: str, fence: int) -> File:
        """The same of what is at hand."""
        digest = hashlib.sha256(content).hexdigest()
        key = _place(name, fence, digest)
        self._write(key, content)
        return File(digest, len(content), key)

    def fetch(self, file: File, path: Path) -> None:
        """Brings a stored file to this machine, where it appears as a whole. Raises NotStored, Damaged."""
        unfinished = path.with_name(f".{path.name}-fetched-{os.getpid()}-{secrets.token_hex(4)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._asked(file.key):
                self._fs.get_file(self._at(file.key), str(unfinished))
            with unfinished.open("rb") as opened:
                if (found := hashlib.file_digest(opened, "sha256").hexdigest()) != file.sha256:
                    raise Damaged(f"{self.url}: {file.key} is damaged: its sha256 is {found[:16]}..., not {file.sha256[:16]}...")
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def object(self, sha256: str) -> File:
        """The file of a result by its digest alone. Raises NotStored."""
        key = _place(None, 0, sha256)
        with self._asked(key):
            return File(sha256, int(self._fs.size(self._at(key))), key)

    def read(self, file: File, start: int, count: int) -> bytes:
        """Some bytes of a stored file, fewer at its end. Raises NotStored."""
        if start >= file.bytes:
            return b""
        with self._asked(file.key):
            return bytes(self._fs.cat_file(self._at(file.key), start=start, end=min(start + count, file.bytes)))

    # --- manifests

    def manifest(self, name: str) -> Manifest | None:
        """What a name has now; None where it has nothing."""
        for _ in range(5):  # the one that was found may be replaced before it is read
            fence = max(self._fences(name), default=None)
            if fence is None:
                return None
            try:
                return _parsed(self._read(_place(name, fence, _MANIFEST)))
            except NotStored:
                continue
        raise StorageError(f"{self.url}: the manifests of {name} are replaced faster than they can be read")

    def manifests(self, prefix: str, names: Iterable[str]) -> dict[str, Manifest]:
        """The same of many names below a prefix, with few requests; names without one are left out."""
        wanted = {f"{prefix}/{name}": name for name in names}
        newest: dict[str, int] = {}
        for key in self._find(prefix):
            found = _OF_FENCE.fullmatch(key)
            if found and found[3] == _MANIFEST and found[1] in wanted:
                newest[found[1]] = max(int(found[2]), newest.get(found[1], 0))
        at = {self._at(_place(place, fence, _MANIFEST)): wanted[place] for place, fence in newest.items()}
        with self._asked(prefix):
            contents = self._fs.cat(list(at), on_error="omit") if at else {}
        return {at[path]: _parsed(content) for path, content in contents.items()}

    def publish(self, name: str, manifest: Manifest) -> None:
        """Makes these the files of a name. The state that they replace is removed. Raises LeaseOver where a newer holder has written."""
        before = list(self._find(name))
        mine = [key for key in before if (found := _OF_FENCE.fullmatch(key)) and int(found[2]) <= manifest.fence]
        newest = max((int(found[2]) for key in before if (found := _OF_FENCE.fullmatch(key)) and found[3] == _MANIFEST), default=0)
        if newest > manifest.fence:
            raise LeaseOver(f"the lease {manifest.fence} of {name} is over, another has written since (lease {newest})")
        own = _place(name, manifest.fence, _MANIFEST)
        self._write(own, _written(manifest))
        self._remove(set(mine) - {own, *(file.key for file in manifest.files.values())})

    def publish_first(self, name: str, path: Path) -> Manifest:
        """Makes a file that of a name, unless it has one already; what it has now."""
        known = self.manifest(name)
        if known is None:
            made = Manifest(0, {path.name: self.put(path)}, finished=True)
            self._write(_place(name, 0, _MANIFEST), _written(made), only_first=True)
            known = self.manifest(name)
        assert known
        return known

    # --- notes

    def leave_note(self, name: str, note: str, content: bytes = b"") -> None:
        """Leaves a word for whoever works on it."""
        self._write(f"{name}/notes/{note}", content)

    def notes(self, name: str) -> set[str]:
        """Which words were left and not taken away."""
        return {key.rsplit("/", 1)[-1] for key in self._find(f"{name}/notes")}

    def note(self, name: str, note: str) -> bytes:
        """What it says. Raises NotStored."""
        return self._read(f"{name}/notes/{note}")

    def take_note_away(self, name: str, note: str) -> None:
        self._remove({f"{name}/notes/{note}"})

    # --- requests

    def _fences(self, name: str) -> Iterator[int]:
        for key in self._find(name):
            found = _OF_FENCE.fullmatch(key)
            if found and found[1] == name and found[3] == _MANIFEST:
                yield int(found[2])

    def _find(self, prefix: str) -> Iterator[str]:
        """Keys of all that is below, but for what is about to be written."""
        with self._asked(prefix):
            try:
                found = self._fs.find(self._at(prefix))
            except FileNotFoundError:
                found = []
        for path in found:
            key = path.removeprefix(self._root).lstrip("/")
            if not key.rsplit("/", 1)[-1].startswith("."):
                yield key

    def _read(self, key: str) -> bytes:
        with self._asked(key):
            return bytes(self._fs.cat_file(self._at(key)))

    def _write(self, key: str, content: bytes, only_first: bool = False) -> None:
        mode = {"mode": "create"} if only_first else {}
        with self._asked(key), contextlib.suppress(FileExistsError):
            self._whole(key, lambda target: self._fs.pipe_file(target, content, **mode), only_first)

    def _remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            with self._asked(key), contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._at(key))

    def _whole(self, key: str, write: Any, only_first: bool = False) -> None:
        """An object store shows what was put when it is complete; in a folder it is written beside its place first."""
        if not self._is_folder:
            write(self._at(key))
            return
        place = Path(self._at(key))
        place.parent.mkdir(parents=True, exist_ok=True)
        unfinished = place.with_name(f".{secrets.token_hex(8)}")
        try:
            write(str(unfinished))
            with unfinished.open("rb") as written:
                os.fsync(written.fileno())
            if only_first:
                os.link(unfinished, place)  # fails where it is there
            else:
                unfinished.replace(place)
        finally:
            unfinished.unlink(missing_ok=True)

    def _at(self, key: str) -> str:
        return f"{self._root}/{key}"

    @contextmanager
    def _asked(self, key: str) -> Iterator[None]:
        """Whatever a library of a store raises, as a StorageError in a sentence."""
        try:
            yield
        except FileNotFoundError as error:
            raise NotStored(f"{self.url} has no {key}") from error
        except Exception as error:
            told = " ".join(str(error).split())[:300] or type(error).__name__
            raise StorageError(f"the store {self.url} did not take a request about {key}: {told}") from error


def _opened(url: str) -> tuple[Any, str]:
    """The file system and the path in it. Raises ValueError."""
    # Here, as most who import this have no store: what fsspec brings takes a moment.
    from fsspec.core import url_to_fs

    protocol = url.split("://")[0] if "://" in url else "file"
    if "@" in url.partition("://")[2].split("/")[0]:
        raise ValueError(
            "RETORT_STORE: a URL holds no credentials; put them where the store's own library looks for them (docs/storage.md)"
        )
    options: dict[str, Any] = {"use_listings_cache": False}
    if protocol in ("s3", "s3a"):
        options["config_kwargs"] = PATIENT
    try:
        fs, root = url_to_fs(str(Path(url).expanduser().resolve()) if protocol == "file" and "://" not in url else url, **options)
    except ImportError as error:
        raise ValueError(f"RETORT_STORE: {url} needs a library that is not installed here: {error}") from error
    except ValueError as error:
        raise ValueError(f"RETORT_STORE: {url} is neither a folder nor a URL of a store: {error}") from error
    return fs, str(root).rstrip("/")


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _place(name: str | None, fence: int, file: str) -> str:
    return f"{OBJECTS}/{file}" if name is None else f"{name}/{fence:012d}/{file}"


def _written(manifest: Manifest) -> bytes:
    return json.dumps(asdict(manifest), sort_keys=True).encode()


def _parsed(content: bytes) -> Manifest:
    data = json.loads(content)
    return Manifest(data["fence"], {name: File(**file) for name, file in data["files"].items()}, data["finished"])


@contextmanager
def _held(path: Path) -> Iterator[Path]:
    """The file of this moment under a name of its own: a writer that replaces it makes another."""
    still = path.with_name(f".{path.name}-stored-{secrets.token_hex(4)}-{os.getpid()}")
    os.link(path, still)
    try:
        yield still
    finally:
        still.unlink(missing_ok=True)
