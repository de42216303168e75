"""`retort weights`: what it lists, takes and refuses."""

import hashlib
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from api.command.cli import app


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint, and a home without weights."""
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    torch.save({"a": torch.zeros(2)}, tmp_path / "own.pth")
    return tmp_path / "own.pth"


def retort(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["weights", *arguments])


def test_an_empty_store_says_how_it_is_filled(file: Path) -> None:
    done = retort("list")
    assert done.exit_code == 0
    assert "retort weights fetch imagenet/resnet50" in done.stdout


def test_what_is_imported_is_listed_with_source_and_state(file: Path) -> None:
    done = retort("import", "lab/own", str(file))
    assert (done.exit_code, done.stderr) == (0, "")
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert sha256 in done.stdout
    (line,) = retort("list").stdout.splitlines()
    assert line.split()[:3] == ["lab/own", "present", sha256[:16]]
    assert line.endswith(str(file))
    (file.parent / "weights" / "lab" / "own.pth").unlink()
    assert retort("list").stdout.split()[1] == "missing"


def test_what_cannot_be_had_is_one_line_and_exit_status_1(file: Path) -> None:
    for arguments, told in (
        (("import", "own", str(file.parent / "gone.pth")), "there is no file"),
        (("import", "imagenet/resnet50", str(file)), "0676ba61"),
        (("fetch", "resnet50"), "no address is known"),
        (("fetch", "own", "--from", "http://localhost/own.pth"), "no https address"),
    ):
        done = retort(*arguments)
        assert (done.exit_code, done.stdout) == (1, ""), arguments
        assert done.stderr.count("\n") == 1
        assert told in done.stderr


def test_one_address_is_for_one_name(file: Path) -> None:
    assert retort("fetch", "a", "b", "--from", "https://localhost/own.pth").exit_code == 2
