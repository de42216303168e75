"""A short form of `python -m tests.api.supervision_chaos`: random kills and stops over the supervisor, the watchdogs and small parts."""

from pathlib import Path

import pytest

from tests.api.supervision_chaos import chaos


def test_a_stack_under_random_kills_and_stops_becomes_whole_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_STILL_SECONDS", "3")
    done = chaos(tmp_path / "home", kills=5, seed=1)
    assert len(done.hits) == 5
    assert {number for _, number in done.hits} == {"SIGKILL", "SIGSTOP"}
