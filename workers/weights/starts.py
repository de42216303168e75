"""What a network has before it trains, from the store of weights: ImageNet's in its backbone, or all of a trained detector's.

Nothing is taken because its shapes fit: the names must agree after mmdet's own renaming of older files, and the network must be given
the pixels that the weights have learnt from.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from torch import Tensor

from studies.trial import TrialFailure
from workers.detectors import zoo_config
from workers.detectors.families import INPUTS, NORMALISATION
from workers.detectors.inputs import Input, input_of
from workers.weights.store import Store, read_state, zoo_config_of

# Not trained on ImageNet: counters of batches, offsets of deformable convolutions, SSD's two convolutions after VGG.
FRESH = re.compile(r"num_batches_tracked$|conv_offset\.|^features\.(31|33)\.")
CAFFE_FILES = re.compile(r"_(caffe|msra)$")  # their stages of bottlenecks stride in the first convolution
# torchvision's names of ShuffleNetV2's parts -> ours.
SHUFFLENET = {r"^conv1\.": "stem.", r"^stage2\.": "stages.0.", r"^stage3\.": "stages.1.", r"^stage4\.": "stages.2."}
SHUFFLENET |= {r"\.branch1\.": ".passing.", r"\.branch2\.": ".convolved."}


def load_backbone(detector: Any, name: str, store: Store) -> None:
    """Gives a detector's backbone weights of ImageNet. Raises TrialFailure("user") where they are missing or do not fit."""
    _check_input(name, input_of(INPUTS.get(name, NORMALISATION)), detector)
    style = getattr(detector.backbone, "style", None)
    if style and (style == "caffe") != bool(CAFFE_FILES.search(name)):
        raise TrialFailure(
            "user", f"the weights {name!r} are not of the {style} style of this network's {type(detector.backbone).__name__}"
        )
    path = store.find(name, "the backbone at paper scale")
    state = _renamed({key.removeprefix("backbone."): value for key, value in read_state(path).items()}, name)
    own = detector.backbone.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    lacking = [key for key in own if key not in fitting and not FRESH.search(key)]
    parts = {key.split(".")[0] for key in own}  # a deeper backbone's file has further convolutions in them
    surplus = [key for key, value in state.items() if key not in own and key.split(".")[0] in parts and value.dim() == 4]
    if lacking or surplus:
        told = f"{len(lacking)} tensors lack, {lacking[0]!r} first" if lacking else f"{len(surplus)} are too many, {surplus[0]!r} first"
        raise TrialFailure("user", f"the weights {name!r} are of another backbone: {told}")
    detector.backbone.load_state_dict(fitting, strict=False)


def load_detector(detector: Any, name: str, store: Store, of_classes: Collection[str] = ()) -> None:
    """Gives a detector trained weights, exactly. Raises TrialFailure("user") where they are missing or of another network.

    of_classes: tensors whose size follows from the number of classes, which stay as they were drawn where the weights are for another.
    A detector that was refused may hold part of the weights.
    """
    path = store.find(name, "the network")
    zoo = zoo_config_of(name)
    if zoo:
        _check_input(name, input_of(zoo_config(zoo).model.data_preprocessor), detector)
    state, own = read_state(path), detector.state_dict()
    for key in own.keys() & state.keys():
        if key in of_classes and own[key].shape != state[key].shape:
            state[key] = own[key]
    try:
        found = detector.load_state_dict(state, strict=False)  # mmdet renames what older versions called otherwise
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise _other_network(name, first) from error
    differing = sorted([*found.missing_keys, *found.unexpected_keys])
    if differing:
        raise _other_network(name, f"they differ in {len(differing)} tensors, {differing[0]!r} first")


def _other_network(name: str, told: str) -> TrialFailure:
    return TrialFailure("user", f"the weights {name!r} are of another network: {told}")


def _check_input(name: str, learnt_from: Input, detector: Any) -> None:
    given = input_of(detector.data_preprocessor)
    if given != learnt_from:
        raise TrialFailure(
            "user",
            f"the weights {name!r} have learnt from {learnt_from}, and this network is given {given}: its features would mean nothing; "
            "start it from weights of its own input",
        )


def _renamed(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors of a published file by our backbone's names."""
    if not name.startswith("imagenet/shufflenet"):
        return state
    renamed = {}
    for key, value in state.items():
        for theirs, ours in SHUFFLENET.items():
            key = re.sub(theirs, ours, key)
        renamed[key] = value
    return renamed
