"""The store of weights: what it takes, refuses and finds; and what a trial says that needs weights which are not there."""

import functools
import hashlib
import http.server
import json
import pickle
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from studies.spec import Network
from studies.trial import TrialFailure, TrialSpec
from workers.datasets import prepare
from workers.detectors import build
from workers.training.networks import networks, pretraining_of
from workers.training.progress import EpochReport
from workers.training.trial import run_trial
from workers.weights import store as weights
from workers.weights.starts import load_backbone
from workers.weights.store import Store, WeightsError, address_of, read_state


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "weights")


def checkpoint(path: Path, **tensors: float) -> Path:
    torch.save({name: torch.full((2,), value) for name, value in tensors.items()}, path)
    return path


def test_an_imported_file_is_listed_with_its_source_and_sha256(store: Store, tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "own.pth", a=1.0)
    entry = store.import_file("lab/own", file)
    assert entry.source == str(file)
    assert entry.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert store.entries() == {"lab/own": entry}
    assert store.state(entry) == "present"
    assert store.find("lab/own", "a test").read_bytes() == file.read_bytes()
    assert json.loads((store.folder / "manifest.json").read_text())["lab/own"]["sha256"] == entry.sha256


def test_a_name_keeps_its_content(store: Store, tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "own.pth", a=1.0)
    entry = store.import_file("own", file)
    assert store.import_file("own", file) == entry
    with pytest.raises(WeightsError, match="another file"):
        store.import_file("own", checkpoint(tmp_path / "other.pth", a=2.0))
    assert store.entries() == {"own": entry}


def test_a_file_that_changed_or_went_is_told(store: Store, tmp_path: Path) -> None:
    entry = store.import_file("own", checkpoint(tmp_path / "own.pth", a=1.0))
    store.path("own").write_bytes(b"")
    assert store.state(entry) == "changed"
    with pytest.raises(TrialFailure, match="not the file that the store took"):
        store.find("own", "a test")
    store.path("own").unlink()
    assert store.state(entry) == "missing"
    assert store.import_file("own", tmp_path / "own.pth") == entry  # healed


def test_a_known_name_takes_only_the_published_file(store: Store, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="0676ba61"):
        store.import_file("imagenet/resnet50", checkpoint(tmp_path / "own.pth", a=1.0))
    with pytest.raises(WeightsError, match="5560aee8"):
        store.import_file("zoo/retinanet_r101_fpn_2x_coco", tmp_path / "own.pth")
    assert store.entries() == {}
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []


class Evil:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('code of the checkpoint ran')",))


class Reaching:
    def __reduce__(self) -> Any:
        return (getattr, (HistoryBuffer, "__init__"))


@pytest.mark.parametrize("content", [Evil(), {"state_dict": {"a": torch.zeros(1)}, "meta": Evil()}, Reaching(), {"a": 1}, [torch.zeros(1)]])
def test_a_file_with_code_or_without_tensors_is_refused(store: Store, tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(WeightsError):
        store.import_file("own", tmp_path / "file.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(content))
    with pytest.raises(WeightsError):
        store.import_file("own", tmp_path / "raw.pth")
    assert store.entries() == {}


def test_a_checkpoint_of_the_zoo_is_read_with_its_training_log(tmp_path: Path) -> None:
    log = HistoryBuffer()
    log.update(0.5)
    meta = {"seed": np.int64(3), "lr": np.float64(0.1), "history": {"loss": log}, "CLASSES": ("cat",)}
    torch.save({"state_dict": {"neck.weight": torch.ones(3)}, "meta": meta}, tmp_path / "zoo.pth")
    assert read_state(tmp_path / "zoo.pth")["neck.weight"].tolist() == [1, 1, 1]
    assert log.mean() == 0.5


def test_addresses_are_known_for_backbones_and_for_the_whole_zoo() -> None:
    assert address_of("imagenet/resnet50").endswith("resnet50-0676ba61.pth")
    assert address_of("zoo/retinanet_r101_fpn_2x_coco").endswith("retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth")
    assert all(weights.HASHED.search(address) for address in weights.IMAGENET.values())
    with pytest.raises(WeightsError, match="imagenet/resnet50"):
        address_of("imagenet/resnet5000")


@pytest.mark.parametrize("name", ["../own", "a/b/c", "", "/etc/passwd", "a/../b", "a b"])
def test_a_name_cannot_leave_the_store(store: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match="no name"):
        store.import_file(name, checkpoint(tmp_path / "own.pth", a=1.0))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An https server on this machine with a certificate of its own, for the folder `site`."""
    (tmp_path / "site").mkdir()
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    made = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    subprocess.run([*request, *made], check=True, capture_output=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "site")))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    monkeypatch.setenv("no_proxy", "localhost")
    yield f"https://localhost:{server.server_port}"
    server.shutdown()


def test_fetching_downloads_once_and_checks_the_published_sha256(store: Store, tmp_path: Path, site: str) -> None:
    file = checkpoint(tmp_path / "own.pth", a=1.0)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    published = tmp_path / "site" / f"own-{digest[:8]}.pth"
    published.write_bytes(file.read_bytes())
    told: list[int] = []
    entry = store.fetch("lab/own", f"{site}/{published.name}", lambda done, of: told.append(done))
    assert (entry.sha256, entry.source) == (digest, f"{site}/{published.name}")
    assert told[-1] == entry.bytes == file.stat().st_size
    published.unlink()
    assert store.fetch("lab/own") == entry  # it is there: no address is needed
    (tmp_path / "site" / "own-00000000.pth").write_bytes(file.read_bytes())
    with pytest.raises(WeightsError, match="00000000"):
        store.fetch("lab/other", f"{site}/own-00000000.pth")
    with pytest.raises(WeightsError, match="404"):
        store.fetch("lab/other", f"{site}/gone.pth")
    with pytest.raises(WeightsError, match="no https address"):
        store.fetch("lab/other", f"file://{file}")
    assert store.entries() == {"lab/own": entry}
    assert {path.name for path in store.folder.rglob("*") if path.is_file()} == {"own.pth", "manifest.json", ".lock"}


def test_a_backbone_starts_from_its_weights(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector: Any = build(Network(detector="gfl", backbone="resnet18", width=8), 10)
    state = {name: torch.full_like(tensor, 0.5) for name, tensor in detector.backbone.state_dict().items() if "tracked" not in name}
    torch.save({**state, "fc.weight": torch.zeros(2)}, tmp_path / "narrow.pth")
    monkeypatch.setitem(weights.IMAGENET, "imagenet/resnet18", "https://example.org/narrow.pth")
    store.import_file("imagenet/resnet18", tmp_path / "narrow.pth")
    load_backbone(detector, "imagenet/resnet18", store)
    assert all((tensor == 0.5).all() for name, tensor in detector.backbone.state_dict().items() if "tracked" not in name)
    other: Any = build(Network(detector="gfl", backbone="resnet34", width=8), 10)
    torch.save(state, tmp_path / "wrong.pth")
    monkeypatch.setitem(weights.IMAGENET, "imagenet/resnet34", "https://example.org/wrong.pth")
    store.import_file("imagenet/resnet34", tmp_path / "wrong.pth")
    with pytest.raises(TrialFailure, match="'imagenet/resnet34' are of another backbone"):
        load_backbone(other, "imagenet/resnet34", store)


def test_the_zoos_detector_for_cityscapes_starts_from_its_detector_for_coco(store: Store, tmp_path: Path) -> None:
    network = Network(detector="mask_rcnn", backbone="resnet50", form="cityscapes", width=8)
    given = {"dataset": "cityscapes", "scale": "paper", "network": network, "schedule": {"epochs": 1, "batch_size": 2, "lr": 0.01}}
    spec = TrialSpec.model_validate({**given, "seed": 0})
    with pytest.raises(TrialFailure, match="retort weights fetch zoo/mask-rcnn_r50_fpn_1x_coco"):
        networks(spec, 8, store)
    trained = {name: torch.full_like(tensor, 0.5) for name, tensor in build(network, 80).state_dict().items()}
    # What the zoo publishes has another sha256.
    (store.folder / "zoo").mkdir(parents=True)
    path = store.path("zoo/mask-rcnn_r50_fpn_1x_coco")
    torch.save(trained, path)
    told = {"source": "made here", "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
    (store.folder / "manifest.json").write_text(json.dumps({"zoo/mask-rcnn_r50_fpn_1x_coco": told}))
    started = networks(spec, 8, store).state_dict()
    drawn = {name for name, tensor in started.items() if tensor.is_floating_point() and not (tensor == 0.5).all()}
    layers = ("bbox_head.fc_cls", "bbox_head.fc_reg", "mask_head.conv_logits")
    assert drawn == {f"roi_head.{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    assert started["roi_head.bbox_head.fc_cls.bias"].shape == (9,)
    del trained["neck.fpn_convs.0.conv.bias"]
    torch.save(trained, path)
    told |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (store.folder / "manifest.json").write_text(json.dumps({"zoo/mask-rcnn_r50_fpn_1x_coco": told}))
    with pytest.raises(TrialFailure, match="another network"):
        networks(spec, 8, store)


def test_a_network_of_other_channels_than_the_published_backbone_starts_from_nothing(store: Store) -> None:
    def ssd(form: str | None) -> Any:
        network = {"detector": "ssd", "backbone": "vgg16", "width": 8, "form": form}
        schedule = {"epochs": 1, "batch_size": 2, "lr": 0.01}
        given = {"dataset": "digits", "scale": "paper", "network": network, "schedule": schedule, "seed": 0}
        return networks(TrialSpec.model_validate(given), 10, store)

    with pytest.raises(TrialFailure, match="imagenet/vgg16"):
        ssd(None)
    assert ssd("doubled").backbone.features[0].out_channels == 16


def test_a_teacher_is_taken_from_the_store_instead_of_trained(tmp_path: Path, data: Path) -> None:
    (tmp_path / "data").symlink_to(data)
    network = {"detector": "gfl", "backbone": "resnet18", "width": 8}
    spec = TrialSpec.model_validate(
        {
            "dataset": "digits",
            "scale": "nano",
            "network": network,
            "schedule": {"epochs": 5, "batch_size": 2, "lr": 0.01, "max_iterations": 8},
            "seed": 0,
            "weights": "lab/teacher",
        }
    )
    with pytest.raises(TrialFailure, match="retort weights import lab/teacher FILE"):
        run_trial(spec, tmp_path / "trial", tmp_path / "data", lambda epoch: None)
    state = build(Network(**network), 10).state_dict()
    torch.save({"state_dict": state}, tmp_path / "teacher.pth")
    Store(tmp_path / "weights").import_file("lab/teacher", tmp_path / "teacher.pth")
    told: list[EpochReport] = []
    result = run_trial(spec, tmp_path / "trial", tmp_path / "data", told.append)
    assert [(epoch.epoch, epoch.epochs) for epoch in told] == [(1, 1)]
    assert {"AP", "err_missed"} <= result.metrics.keys()
    exported = torch.load(result.checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(exported[name], tensor) for name, tensor in state.items())
    other = spec.model_copy(update={"network": Network(detector="gfl", backbone="resnet34", width=8)})
    with pytest.raises(TrialFailure, match="another network"):
        run_trial(other, tmp_path / "other", tmp_path / "data", lambda epoch: None)


@pytest.mark.parametrize(("detector", "classes", "kept"), [("gfl", 10, True), ("gfl", 3, False), ("faster_rcnn", 3, False)])
def test_a_network_starts_from_weights_of_ones_own(tmp_path: Path, detector: str, classes: int, kept: bool) -> None:
    """Of the same classes to go on from, of others to be tuned to new ones: then the layers of the classes are new."""
    network = {"detector": detector, "backbone": "resnet18", "width": 8}
    torch.manual_seed(7)
    state = build(Network.model_validate(network), classes).state_dict()
    torch.save({"state_dict": state}, tmp_path / "own.pth")
    store = Store(tmp_path / "weights")
    store.import_file("lab/own", tmp_path / "own.pth")
    schedule = {"epochs": 1, "batch_size": 2, "lr": 0.01}
    for scale in ("smoke", "nano", "paper"):
        given = {"dataset": "digits", "scale": scale, "network": network, "schedule": schedule, "seed": 0, "init": "lab/own"}
        spec = TrialSpec.model_validate(given)
        assert pretraining_of(spec) is None
        found = networks(spec, 10, store).state_dict()
        differing = {name for name, tensor in found.items() if tensor.shape != state[name].shape or not torch.equal(tensor, state[name])}
        of_classes = {"gfl": {"bbox_head.gfl_cls"}, "faster_rcnn": {"roi_head.bbox_head.fc_cls", "roi_head.bbox_head.fc_reg"}}[detector]
        assert {name.rsplit(".", 1)[0] for name in differing} == (set() if kept else of_classes)


def test_a_trial_at_paper_scale_without_weights_says_the_command(tmp_path: Path, data: Path) -> None:
    prepare("digits", data)
    spec = TrialSpec.model_validate(
        {
            "dataset": "digits",
            "scale": "paper",
            "network": {"detector": "gfl", "backbone": "resnet18"},
            "schedule": {"epochs": 1, "batch_size": 2, "lr": 0.01},
            "seed": 0,
        }
    )
    with pytest.raises(TrialFailure) as caught:
        run_trial(spec, tmp_path / "trial", data, lambda epoch: None)
    assert caught.value.kind == "user"
    assert caught.value.sentence.endswith("get them with: retort weights fetch imagenet/resnet18")
    assert "\n" not in caught.value.sentence
