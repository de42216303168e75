"""The page on adding a detector, done as it says: a package with a family of its own, and a config file that becomes plain data."""

import json
import os
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from api.command.cli import app
from studies.catalog import AS_CONFIGURED, detectors, family_of
from studies.own_detectors import OwnDetectorError, read_own_detector
from studies.parse import parse_study
from studies.problems import SpecError
from studies.spec import MethodUse, Network
from studies.trial import TrialSpec
from tests.workers.package_page import install, run
from tests.workers.synthetic import batch
from workers.detectors import build, describe
from workers.detectors.registering import register_detector
from workers.distillation.student import DistilledDetector

CHECK = """
import sys
from pathlib import Path

from studies.catalog import detectors
from studies.documents import read_document
from studies.expand import expand
from studies.parse import parse_study
from studies.problems import SpecError

assert detectors()["foveabox"].title == "FoveaBox"
text = Path("study.yaml").read_text()
expansion = expand(parse_study(read_document(text, "yaml")))
assert [row.title for row in expansion.rows] == ["teacher: FoveaBox ResNet-34", "student", "fitnet", "cwd"]
assert expansion.trial("fitnet", 0).network.width == 8
try:
    parse_study(read_document(text.replace("distiller: fitnet", "distiller: ld"), "yaml"))
except SpecError as error:
    print(error)
assert "torch" not in sys.modules
"""

TRAIN = """
import json
from pathlib import Path

from studies.documents import read_document
from studies.parse import parse_study
from workers.local import run_locally

study = parse_study({**read_document(Path("study.yaml").read_text(), "yaml"), "scale": "smoke"})
told = []
for arm in ("fitnet", "cwd"):
    result, folder = run_locally(study, arm, 0, Path("home"), lambda trial, epoch: told.append((trial.id, epoch.metrics)))
print(json.dumps(told))
"""

CONFIG = """
model = dict(
    type="RetinaNet",
    data_preprocessor=dict(
        type="DetDataPreprocessor", mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], bgr_to_rgb=True, pad_size_divisor=32
    ),
    backbone=dict(
        type="ResNet", depth=18, base_channels=8, stem_channels=8, out_indices=(0, 1, 2, 3), frozen_stages=-1,
        init_cfg=dict(type="Pretrained", checkpoint="https://nowhere.invalid/resnet18.pth"),
    ),
    neck=dict(type="FPN", in_channels=[8, 16, 32, 64], out_channels=16, start_level=1, num_outs=4, add_extra_convs="on_input"),
    bbox_head=dict(
        type="RetinaHead", num_classes=80, in_channels=16, feat_channels=16, stacked_convs=2,
        anchor_generator=dict(type="AnchorGenerator", octave_base_scale=4, scales_per_octave=2, ratios=[1.0], strides=[8, 16, 32, 64]),
        bbox_coder=dict(type="DeltaXYWHBBoxCoder"),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, loss_weight=1.0), loss_bbox=dict(type="L1Loss", loss_weight=1.0),
    ),
    train_cfg=dict(
        assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0), sampler=dict(type="PseudoSampler"),
        allowed_border=-1, pos_weight=-1, debug=False,
    ),
    test_cfg=dict(nms_pre=100, min_bbox_size=0, score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5), max_per_img=20),
)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own."""
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "street.py"
    path.write_text(CONFIG)
    return path


def test_a_packages_family_is_in_the_catalogue_and_in_specs(tmp_path: Path) -> None:
    install("add-a-detector.md", tmp_path)
    assert "LD needs box sides predicted as distributions over bins" in run(tmp_path, CHECK)


def test_a_packages_family_trains_and_teaches(tmp_path: Path, data: Path) -> None:
    install("add-a-detector.md", tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "data").symlink_to(data)
    told = json.loads(run(tmp_path, TRAIN).splitlines()[-1])
    assert [trial for trial, _ in told] == [
        "teacher/foveabox-resnet34/seed-0",
        "fitnet/seed-0",
        "teacher/foveabox-resnet34/seed-0",  # told again, not trained again
        "cwd/seed-0",
    ]
    assert told[1][1]["loss_fitnet"] > 0
    assert told[3][1]["loss_cwd"] > 0


def test_a_config_file_becomes_plain_data(home: Path, config: Path) -> None:
    told = CliRunner().invoke(app, ["detectors", "add", "street", str(config), "--title", "Street detector"])
    assert told.exit_code == 0, told.output
    assert "offers dense_logits, neck; pyramid strides 8, 16, 32, 64\n" in told.output
    written = yaml.safe_load((home / "detectors" / "street.yaml").read_text())
    assert written["model"]["backbone"]["init_cfg"] is None  # what would be downloaded
    assert written["source"] == "street.py"
    assert detectors()["street"].title == "Street detector"
    os.unlink(config)  # which nothing reads any longer
    study = {"name": "x", "dataset": "digits", "student": {"detector": "street", "backbone": AS_CONFIGURED}, "arms": [{"id": "a"}]}
    assert parse_study(study).student.family.strides == (8, 16, 32, 64)
    with pytest.raises(SpecError, match=r"student.backbone: Street detector is not offered on ResNet-18; its backbones: as_configured"):
        parse_study({**study, "student": {"detector": "street", "backbone": "resnet18"}})
    with pytest.raises(SpecError, match=r"student.width: a network of its own config is as wide as that says"):
        parse_study({**study, "student": {"detector": "street", "backbone": AS_CONFIGURED, "width": 8}})


def test_a_registered_detector_is_distilled(home: Path, config: Path) -> None:
    register_detector("street", config)
    student = Network(detector="street", backbone=AS_CONFIGURED)
    torch.manual_seed(0)
    models = build(student, 10), build(student, 10)
    infos = describe(student, models[0]), describe(student, models[1])
    assert infos[0].anchors_per_cell == 2
    uses = [MethodUse(id="fitnet"), MethodUse(id="cwd", options={"source": "logits"}), MethodUse(id="dist"), MethodUse(id="gkd")]
    losses = DistilledDetector(*models, uses, infos).train()(**batch(), mode="loss")
    assert all(losses[name] >= 0 for name in ("loss_fitnet", "loss_cwd", "loss_dist_inter", "loss_dist_intra", "loss_gkd"))


def test_what_it_is_made_of_is_its_trials_identity(home: Path, config: Path) -> None:
    register_detector("street", config)
    network = Network(detector="street", backbone=AS_CONFIGURED)
    trial = TrialSpec(dataset="digits", scale="nano", network=network, schedule={}, seed=0)
    before = trial.key("data", "code")
    path = home / "detectors" / "street.yaml"
    path.write_text(path.read_text().replace("octave_base_scale: 4", "octave_base_scale: 6"))
    assert trial.key("data", "code") != before
    plain = TrialSpec(dataset="digits", scale="nano", network={"detector": "gfl", "backbone": "resnet18"}, schedule={}, seed=0)
    assert "detectors" not in plain.identity("data", "code")["trial"]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("gfl", CONFIG, "the name 'gfl' is taken by a family of the catalogue"),
        ("../street", CONFIG, "'../street' is no name for a detector"),
        ("street", "model = 3", "has no `model`"),
        ("street", "model = dict(type='RetinaNet'", "is no mmdet config"),
        ("street", CONFIG.replace('"FPN"', '"NoSuchNeck"'), "its network cannot be built and run: KeyError"),
        ("street", CONFIG + "model['extra'] = print", "its model config holds <built-in function print>, which is no plain data"),
    ],
)
def test_what_cannot_be_registered_is_told_and_leaves_nothing(home: Path, config: Path, name: str, text: str, why: str) -> None:
    config.write_text(text)
    told = CliRunner().invoke(app, ["detectors", "add", name, str(config)])
    assert told.exit_code == 1
    assert why in told.output
    assert not list((home / "detectors").glob("*")) if (home / "detectors").exists() else True


def test_a_name_keeps_its_content(home: Path, config: Path) -> None:
    register_detector("street", config)
    with pytest.raises(OwnDetectorError, match="a name keeps its content"):
        register_detector("street", config)


def test_a_file_that_cannot_be_used_takes_nothing_down(home: Path, config: Path, caplog: pytest.LogCaptureFixture) -> None:
    (home / "detectors").mkdir(parents=True)
    (home / "detectors" / "broken.yaml").write_text("title: 3")
    assert "broken" not in detectors()
    assert "broken.yaml: title: Input should be a valid string" in caplog.text
    assert family_of("gfl").title == "GFL"
    with pytest.raises(OwnDetectorError, match="no detector 'other' is registered here"):
        read_own_detector("other")
