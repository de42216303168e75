"""What networks start from: every published file fits its backbone by name and by what it has learnt from, and no other passes."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mmengine
import pytest
import torch
from mmdet.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from studies.catalog import DETECTORS, FORMS, ZOO, in_form, start_of
from studies.spec import Network
from studies.trial import TrialFailure
from tests.workers.published_files import PUBLISHED, Tensors
from workers.detectors import build, model_config, zoo_config
from workers.detectors.configs import register, scope
from workers.detectors.inputs import input_of
from workers.weights.starts import FRESH, load_backbone, load_detector
from workers.weights.store import IMAGENET, Store


def catalogue() -> Iterator[Network]:
    """Every network that a study may name at paper scale."""
    for detector in DETECTORS:
        for form in (None, *(name for name, form in FORMS.items() if detector in form.detectors)):
            for backbone in in_form(detector, form).backbones:
                yield Network(detector=detector, backbone=backbone, form=form)


def title(network: Network) -> str:
    return "-".join(filter(None, (network.detector, network.backbone, network.form)))


def start(network: Network) -> str:
    return start_of(network.detector, network.backbone, network.form) or ""


def published(name: str, folder: Path, tensors: Tensors) -> Store:
    """A store with such a file, each of its tensors filled with a number of its own (and of one element's size on the disk)."""
    path = folder / f"{name}.pth"
    path.parent.mkdir(parents=True)
    torch.save({key: torch.tensor(float(number)).expand(shape) for number, (key, shape) in enumerate(tensors.items(), 1)}, path)
    told = {"source": "made here", "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
    (folder / "manifest.json").write_text(json.dumps({name: told}))
    return Store(folder)


def detector_of(network: Network) -> Any:
    """The network's backbone and preprocessor at full width, without the time that drawing its weights takes."""
    register()
    config = model_config(network, 10)
    with scope():
        return SimpleNamespace(backbone=MODELS.build(config.backbone), data_preprocessor=MODELS.build(config.data_preprocessor))


STARTS = {start(network): network for network in reversed(list(catalogue())) if start(network).startswith("imagenet/")}


def test_every_backbone_of_the_store_is_a_start_of_the_catalogue_and_has_its_published_names_written_down() -> None:
    assert STARTS.keys() == IMAGENET.keys() == PUBLISHED.keys()


@pytest.mark.parametrize("name", STARTS)
def test_a_backbone_takes_every_tensor_of_its_published_file(name: str, tmp_path: Path) -> None:
    detector = detector_of(STARTS[name])
    load_backbone(detector, name, published(name, tmp_path, PUBLISHED[name]))
    taken = {float(tensor.flatten()[0]) for key, tensor in detector.backbone.state_dict().items() if not FRESH.search(key)}
    numbers = dict(enumerate(PUBLISHED[name], 1))
    left = {key for number, key in numbers.items() if number not in taken and "tracked" not in key}
    assert all(re.match(r"(fc|classifier\.\d|conv5\.[01])\.|conv1\.bias$", key) for key in left), left
    assert taken <= numbers.keys()


@pytest.mark.parametrize(
    "network", [n for n in catalogue() if n.backbone.endswith("_dcn") and n.detector in {"gfl", "faster_rcnn"}], ids=title
)
def test_deformable_convolutions_take_the_plain_ones_weights(network: Network, tmp_path: Path) -> None:
    detector = detector_of(network)
    load_backbone(detector, start(network), published(start(network), tmp_path, PUBLISHED[start(network)]))
    numbers = {key: number for number, key in enumerate(PUBLISHED[start(network)], 1)}
    weight = detector.backbone.layer4[0].conv2.weight
    assert (weight == numbers["layer4.0.conv2.weight"]).all()


def batch_norm(state: dict[str, Tensor], x: Tensor, at: str) -> Tensor:
    return F.batch_norm(x, *(state[f"{at}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")))


def shuffled(state: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """ShuffleNetV2 (Ma et al., ECCV 2018) without pooling, by torchvision's names: outputs of its last two stages."""

    def branch(x: Tensor, at: str, layers: str) -> Tensor:
        number = 0
        for kind in layers:  # p: 1x1 with ReLU, d: depthwise, D: depthwise of stride 2
            weight = state[f"{at}.{number}.weight"]
            stride = 2 if kind == "D" else 1
            x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=1 if kind == "p" else len(weight))
            x = batch_norm(state, x, f"{at}.{number + 1}")
            x, number = (x.relu(), number + 3) if kind == "p" else (x, number + 2)
        return x

    x = batch_norm(state, F.conv2d(x, state["conv1.0.weight"], stride=2, padding=1), "conv1.1").relu()
    outputs = []
    for stage, units in ((2, 4), (3, 8), (4, 4)):
        for unit in range(units):
            at = f"stage{stage}.{unit}"
            left, right = (x, x) if unit == 0 else x.chunk(2, 1)
            both = torch.cat(
                [branch(left, f"{at}.branch1", "Dp") if unit == 0 else left, branch(right, f"{at}.branch2", "pDp" if unit == 0 else "pdp")],
                1,
            )
            x = both.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        outputs.append(x)
    return outputs[1:]


def test_a_shufflenet_computes_what_torchvisions_does_from_its_file(tmp_path: Path) -> None:
    name = "imagenet/shufflenetv2_0.5"
    generator = torch.Generator().manual_seed(0)
    state = {key: torch.rand(shape, generator=generator) + 0.1 for key, shape in PUBLISHED[name].items()}
    state |= {key: tensor - 0.6 for key, tensor in state.items() if tensor.dim() == 4}
    store = published(name, tmp_path, PUBLISHED[name])
    torch.save(state, store.path(name))
    told = json.loads((tmp_path / "manifest.json").read_text())
    told[name]["sha256"] = hashlib.sha256(store.path(name).read_bytes()).hexdigest()
    (tmp_path / "manifest.json").write_text(json.dumps(told))
    detector = detector_of(Network(detector="fcos", backbone="shufflenetv2_0.5", form="pdf_fpn"))
    load_backbone(detector, name, store)
    image = torch.randn(1, 3, 64, 64, generator=generator)
    with torch.no_grad():
        for ours, theirs in zip(detector.backbone.eval()(image), shuffled(state, image), strict=True):
            torch.testing.assert_close(ours, theirs)


FILES = json.loads((Path(mmengine.__file__).parent / "hub" / "openmmlab.json").read_text())
FILES |= {
    f"torchvision/{k}": v for k, v in json.loads((Path(mmengine.__file__).parent / "hub" / "torchvision_0.12.json").read_text()).items()
}


def zoo_file(checkpoint: str) -> str:
    """Name of the file that a zoo config's `init_cfg` means."""
    address: str = FILES[checkpoint.replace("torchvision://", "torchvision/").removeprefix("open-mmlab://")]
    return address.rsplit("/", 1)[-1]


@pytest.mark.parametrize(("detector", "backbone", "form"), [*((*pair, None) for pair in ZOO), ("fcos", "resnet50", "centre_sampling")])
def test_a_network_of_the_zoo_starts_from_its_configs_file_and_is_given_its_configs_pixels(
    detector: str, backbone: str, form: str | None
) -> None:
    zoo = zoo_config(IMPROVED if form else ZOO[detector, backbone].config).model
    network = Network(detector=detector, backbone=backbone, form=form)
    ours = model_config(network, 80)
    assert IMAGENET[start(network)].rsplit("/", 1)[-1] == zoo_file(zoo.backbone.init_cfg.checkpoint)
    assert input_of(ours.data_preprocessor) == input_of(zoo.data_preprocessor)
    assert ours.data_preprocessor.pad_size_divisor == zoo.data_preprocessor.pad_size_divisor
    assert ours.backbone.get("style") == zoo.backbone.get("style")


IMPROVED = "fcos/fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py"


def test_fcos_with_centre_sampling_is_the_zoos_improved_one() -> None:
    zoo = zoo_config(IMPROVED).model
    zoo.backbone.init_cfg = None
    assert zoo.bbox_head.pop("dcn_on_last_conv") is False  # as where a config does not say
    assert model_config(Network(detector="fcos", backbone="resnet50", form="centre_sampling"), 80) == zoo


@pytest.mark.parametrize("network", list(catalogue()), ids=title)
def test_every_network_is_given_what_its_start_has_learnt_from(network: Network) -> None:
    if start(network).startswith("imagenet/"):
        config = model_config(network, 10)
        caffe = start(network).endswith(("_caffe", "_msra"))
        assert (config.backbone.get("style", "pytorch") == "caffe") == caffe
        assert (input_of(config.data_preprocessor).std == (1, 1, 1)) == (caffe or network.backbone == "vgg16")


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (Network(detector="fcos", backbone="resnet50"), "imagenet/resnet50"),
        (Network(detector="retinanet", backbone="resnet50"), "imagenet/resnet50_caffe"),
        (Network(detector="fcos", backbone="resnet50"), "imagenet/resnet50_msra"),  # BGR as it is too, around another mean
    ],
    ids=["caffe-network", "torchvision-network", "detectron-2"],
)
def test_weights_of_another_input_are_refused_though_their_shapes_fit(network: Network, name: str, tmp_path: Path) -> None:
    with pytest.raises(TrialFailure, match=r"have learnt from (RGB|BGR) minus .* and this network is given (RGB|BGR) minus") as refused:
        load_backbone(detector_of(network), name, published(name, tmp_path, PUBLISHED[name]))
    assert refused.value.kind == "user"


def test_weights_of_another_style_are_refused_though_input_and_shapes_fit(tmp_path: Path) -> None:
    detector = detector_of(Network(detector="retinanet", backbone="resnet50"))
    caffe = detector_of(Network(detector="fcos", backbone="resnet50"))
    detector.data_preprocessor = caffe.data_preprocessor
    with pytest.raises(TrialFailure, match="not of the pytorch style"):
        load_backbone(
            detector, "imagenet/resnet50_caffe", published("imagenet/resnet50_caffe", tmp_path, PUBLISHED["imagenet/resnet50_caffe"])
        )


def test_a_deeper_backbones_file_is_refused_though_it_holds_all_that_a_shallower_one_wants(tmp_path: Path) -> None:
    store = published("imagenet/resnet50", tmp_path, PUBLISHED["imagenet/resnet101"])
    with pytest.raises(TrialFailure, match=r"another backbone: 51 are too many, 'layer3.6.conv1.weight' first"):
        load_backbone(detector_of(Network(detector="gfl", backbone="resnet50")), "imagenet/resnet50", store)


def test_a_trained_detector_of_another_input_is_refused(tmp_path: Path) -> None:
    name = "zoo/fcos_r50-caffe_fpn_gn-head_1x_coco"
    detector: Any = build(Network(detector="fcos", backbone="resnet50", width=8), 80)  # narrow: given RGB
    store = published(name, tmp_path, {key: tuple(tensor.shape) for key, tensor in detector.state_dict().items()})
    with pytest.raises(TrialFailure, match="have learnt from BGR minus"):
        load_detector(detector, name, store)


def test_a_trained_detector_of_an_older_mmdet_is_taken_by_its_old_names(tmp_path: Path) -> None:
    detector: Any = build(Network(detector="fcos", backbone="resnet18", width=8), 10)
    own = {key: tuple(tensor.shape) for key, tensor in detector.state_dict().items() if "tracked" not in key}
    assert {"bbox_head.conv_cls.weight", "bbox_head.conv_reg.weight", "bbox_head.conv_centerness.bias"} <= own.keys()
    older = {re.sub(r"bbox_head\.conv_(cls|reg|centerness)\.", r"bbox_head.fcos_\1.", key): shape for key, shape in own.items()}
    load_detector(detector, "lab/older", published("lab/older", tmp_path, older))
    numbers = {key: number for number, key in enumerate(own, 1)}
    assert all((tensor == numbers[key]).all() for key, tensor in detector.state_dict().items() if key in numbers)
    del older["bbox_head.fcos_reg.bias"]
    with pytest.raises(TrialFailure, match=r"another network: they differ in 1 tensors, 'bbox_head.conv_reg.bias' first"):
        load_detector(detector, "lab/older", published("lab/older", tmp_path / "incomplete", older))
    wrong = older | {"bbox_head.fcos_reg.bias": (4,), "bbox_head.fcos_cls.weight": (11, 32, 3, 3)}
    with pytest.raises(TrialFailure, match=r"another network: size mismatch for bbox_head.conv_cls.weight"):
        load_detector(detector, "lab/older", published("lab/older", tmp_path / "wrong", wrong))
