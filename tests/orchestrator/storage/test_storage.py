"""What every store does, be it a folder, memory or S3: files by digest, whole manifests, and nothing for those who lost their lease."""

import hashlib
from pathlib import Path

import pytest

from orchestrator.storage.storage import Damaged, File, LeaseOver, Manifest, NotStored, Storage, StorageError

NAME = "trials/abc"


def written(folder: Path, content: bytes, name: str = "last.pt") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def keys(storage: Storage) -> set[str]:
    """All that the store holds."""
    return set(storage._find(""))


def test_a_file_is_found_by_the_digest_of_its_content(storage: Storage, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    file = storage.put(written(tmp_path, content))
    assert file == File(hashlib.sha256(content).hexdigest(), 2**20, f"objects/{file.sha256}")
    assert storage.object(file.sha256) == file
    storage.fetch(file, tmp_path / "there" / "model.pth")
    assert (tmp_path / "there" / "model.pth").read_bytes() == content
    assert storage.read(file, 2**20 - 3, 100) == b"\xfd\xfe\xff"
    assert storage.read(file, 2**20, 100) == b""


def test_a_damaged_object_is_never_taken_and_leaves_nothing_behind(storage: Storage, tmp_path: Path) -> None:
    file = storage.put(written(tmp_path, b"good"))
    storage._write(file.key, b"evil")
    with pytest.raises(Damaged, match="is damaged"):
        storage.fetch(file, tmp_path / "there" / "model.pth")
    assert list((tmp_path / "there").iterdir()) == []


def test_what_is_not_there_is_said_to_be_missing(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(NotStored, match="has no objects/c0ffee"):
        storage.fetch(File("c0ffee", 1, "objects/c0ffee"), tmp_path / "x")
    with pytest.raises(NotStored, match="has no objects/c0ffee"):
        storage.object("c0ffee")
    assert storage.manifest(NAME) is None
    assert storage.manifests("trials", ["abc"]) == {}


def test_a_manifest_names_what_was_published_last_and_the_state_before_is_gone(storage: Storage, tmp_path: Path) -> None:
    for epoch in (b"one", b"two"):
        file = storage.put(written(tmp_path, epoch), NAME, 7)
        storage.publish(NAME, Manifest(7, {"last.pt": file}))
    assert storage.manifest(NAME) == Manifest(7, {"last.pt": file})
    assert keys(storage) == {f"{NAME}/000000000007/manifest.json", file.key}


def test_without_its_manifest_nothing_of_a_trial_is_seen(storage: Storage, tmp_path: Path) -> None:
    storage.put(written(tmp_path, b"half"), NAME, 7)
    assert storage.manifest(NAME) is None


def test_whoever_lost_the_lease_can_neither_overwrite_nor_remove_anything(storage: Storage, tmp_path: Path) -> None:
    old = storage.put(written(tmp_path, b"old"), NAME, 5)
    storage.publish(NAME, Manifest(5, {"last.pt": old}))
    new = storage.put(written(tmp_path, b"new"), NAME, 7)  # the newer holder is at its first manifest
    late = storage.put(written(tmp_path, b"late"), NAME, 5)
    storage.publish(NAME, Manifest(5, {"last.pt": late}))
    storage.publish(NAME, Manifest(7, {"last.pt": new}))
    assert keys(storage) == {f"{NAME}/000000000007/manifest.json", new.key}
    storage.put(written(tmp_path, b"later"), NAME, 5)
    with pytest.raises(LeaseOver, match=r"the lease 5 of trials/abc is over, another has written since \(lease 7\)"):
        storage.publish(NAME, Manifest(5, {"last.pt": late}))
    assert storage.manifest(NAME) == Manifest(7, {"last.pt": new})
    storage.fetch(new, tmp_path / "there")
    assert (tmp_path / "there").read_bytes() == b"new"


def test_results_outlive_the_state_that_they_came_from(storage: Storage, tmp_path: Path) -> None:
    state = storage.put(written(tmp_path, b"state"), NAME, 7)
    storage.publish(NAME, Manifest(7, {"last.pt": state}))
    result = storage.put(written(tmp_path, b"weights", "model.pth"))
    storage.publish(NAME, Manifest(7, {"model.pth": result}, finished=True))
    assert storage.manifest(NAME) == Manifest(7, {"model.pth": result}, finished=True)
    assert keys(storage) == {f"{NAME}/000000000007/manifest.json", result.key}


def test_the_manifests_of_many_trials_are_read_at_once(storage: Storage, tmp_path: Path) -> None:
    made = {}
    for number in range(12):
        file = storage.put_bytes(str(number).encode(), f"trials/t{number}", number)
        made[f"t{number}"] = Manifest(number, {"x": file}, finished=bool(number % 2))
        storage.publish(f"trials/t{number}", made[f"t{number}"])
    assert storage.manifests("trials", [f"t{number}" for number in range(4, 20)]) == {f"t{n}": made[f"t{n}"] for n in range(4, 12)}


def test_the_first_file_of_a_name_stays(storage: Storage, tmp_path: Path) -> None:
    first = storage.publish_first("pretrained/x", written(tmp_path / "a", b"one"))
    assert storage.publish_first("pretrained/x", written(tmp_path / "b", b"two")) == first
    storage._write("pretrained/x/000000000000/manifest.json", b"{}", only_first=True)  # who came between the look and the put
    assert storage.manifest("pretrained/x") == first
    assert first.files["last.pt"].sha256 == hashlib.sha256(b"one").hexdigest()


def test_notes_are_left_read_and_taken_away(storage: Storage) -> None:
    storage.leave_note(NAME, "leave-now")
    storage.leave_note(NAME, "process.json", b"{}")
    assert storage.notes(NAME) == {"leave-now", "process.json"}
    assert storage.note(NAME, "process.json") == b"{}"
    storage.take_note_away(NAME, "leave-now")
    storage.take_note_away(NAME, "leave-now")
    assert storage.notes(NAME) == {"process.json"}
    assert storage.manifest(NAME) is None


def test_what_is_stored_is_the_file_of_one_moment(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, b"first")
    put_file = storage._fs.put_file

    def replaced_first(source: str, target: str) -> None:
        beside = written(tmp_path, b"second", "beside")
        beside.replace(path)
        put_file(source, target)

    monkeypatch.setattr(storage._fs, "put_file", replaced_first)
    file = storage.put(path)
    storage.fetch(file, tmp_path / "there")
    assert (tmp_path / "there").read_bytes() == b"first"
    assert {each.name for each in tmp_path.iterdir()} - {"store"} == {"last.pt", "there"}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nowhere://x", "RETORT_STORE: nowhere://x is neither a folder nor a URL of a store"),
        ("s3://key:secret@bucket/x", "RETORT_STORE: a URL holds no credentials"),
    ],
)
def test_what_is_no_store_is_refused_with_the_settings_name(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Storage(url)


def test_a_store_that_is_away_is_told_in_a_sentence(s3: str) -> None:
    with pytest.raises(StorageError, match="s3://nobodys-bucket/x"):
        Storage("s3://nobodys-bucket/x").leave_note("trials/abc", "note")
