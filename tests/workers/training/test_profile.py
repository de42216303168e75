"""The trace of a few steps: what is in it, and that it leaves nothing else."""

import gzip
import json
from pathlib import Path

import pytest

from studies.parse import parse_study
from studies.trial import TrialFailure
from workers.local import profile_locally
from workers.training.profile import STEPS

STUDY = {
    "name": "profiled",
    "dataset": "digits",
    "scale": "smoke",
    "teacher": {"detector": "gfl", "backbone": "resnet18"},
    "student": {"detector": "gfl", "backbone": "resnet18"},
    "arms": [
        {"id": "fitnet", "distiller": "fitnet"},
        {"id": "taken", "student": {"detector": "gfl", "backbone": "resnet18", "weights": "a/b"}},
    ],
}


@pytest.fixture
def home(tmp_path: Path, data: Path) -> Path:
    (tmp_path / "data").symlink_to(data)
    return tmp_path


def test_a_distilled_trials_steps_are_traced(home: Path) -> None:
    trace, spec = profile_locally(parse_study(STUDY), "fitnet", 0, home, lambda trial, epoch: None)
    assert list((home / "profiles").iterdir()) == [trace]
    assert [use.id for use in spec.distillers] == ["fitnet"]
    assert len(list((home / "trials").iterdir())) == 1  # the teacher's
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    names = [event.get("name", "") for event in events]
    steps = {name for name in names if name.startswith("ProfilerStep#")}
    assert len(steps) == STEPS
    for operation in ("aten::convolution", "aten::convolution_backward", "aten::mse_loss"):
        assert sum(name == operation for name in names) >= STEPS
    assert all({"ph", "pid", "tid", "ts"} <= event.keys() for event in events if event["ph"] == "X")  # what Perfetto draws


def test_what_does_not_train_has_no_steps(home: Path) -> None:
    with pytest.raises(TrialFailure, match="row taken is taken with its weights and does not train"):
        profile_locally(parse_study(STUDY), "taken", 0, home, lambda trial, epoch: None)
