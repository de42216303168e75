"""Names and shapes of the tensors in the files that backbones start from, written from their formats and not from our networks.

torchvision's are those of its `resnet.py`, `vgg.py` and `shufflenetv2.py`; Caffe's and pycls's those that mmdet's converters
(`tools/model_converters/{detectron2pytorch,regnet2mmdet}.py`) write; DarkNet's and VGG's those of mmdet and mmcv.
"""

from collections.abc import Iterator

Shape = tuple[int, ...]
Tensors = dict[str, Shape]


def norm(name: str, channels: int, counted: bool = True) -> Tensors:
    told: Tensors = {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return told | ({f"{name}.num_batches_tracked": ()} if counted else {})


def layer(name: str, outputs: int, inputs: int) -> Tensors:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def resnet(blocks: Shape, bottleneck: bool, groups: int = 1, base: int = 64, counted: bool = True, classified: bool = True) -> Tensors:
    """torchvision's ResNet and ResNeXt. base: channels of a group in the first stage. counted: with counters of batches."""
    told: Tensors = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64, counted)}
    inputs, expansion = 64, 4 if bottleneck else 1
    for stage, count in enumerate(blocks):
        planes = 64 * 2**stage
        width = planes * base // 64 * groups if bottleneck else planes
        for index in range(count):
            at = f"layer{stage + 1}.{index}"
            outputs = planes * expansion
            if bottleneck:
                told |= {f"{at}.conv1.weight": (width, inputs, 1, 1), f"{at}.conv2.weight": (width, width // groups, 3, 3)}
                told |= {f"{at}.conv3.weight": (outputs, width, 1, 1), **norm(f"{at}.bn3", outputs, counted)}
            else:
                told |= {f"{at}.conv1.weight": (planes, inputs, 3, 3), f"{at}.conv2.weight": (planes, planes, 3, 3)}
            told |= norm(f"{at}.bn1", width, counted) | norm(f"{at}.bn2", width, counted)
            if inputs != outputs:
                told |= {f"{at}.downsample.0.weight": (outputs, inputs, 1, 1), **norm(f"{at}.downsample.1", outputs, counted)}
            inputs = outputs
    return told | (layer("fc", 1000, inputs) if classified else {})


def regnet() -> Tensors:
    """pycls's RegNetX-800MF, converted."""
    told: Tensors = {"conv1.weight": (32, 3, 3, 3), **norm("bn1", 32)}
    inputs = 32
    for stage, (width, count) in enumerate(((64, 1), (128, 3), (288, 7), (672, 5)), 1):
        for index in range(count):
            at = f"layer{stage}.{index}"
            told |= {f"{at}.conv1.weight": (width, inputs, 1, 1), f"{at}.conv2.weight": (width, 16, 3, 3)}
            told |= {f"{at}.conv3.weight": (width, width, 1, 1)}
            told |= norm(f"{at}.bn1", width) | norm(f"{at}.bn2", width) | norm(f"{at}.bn3", width)
            if index == 0:
                told |= {f"{at}.downsample.0.weight": (width, inputs, 1, 1), **norm(f"{at}.downsample.1", width)}
            inputs = width
    return told | layer("fc", 1000, inputs)


def darknet() -> Tensors:
    """mmdet's DarkNet-53."""

    def block(at: str, outputs: int, inputs: int, kernel: int) -> Tensors:
        return {f"{at}.conv.weight": (outputs, inputs, kernel, kernel), **norm(f"{at}.bn", outputs)}

    told = block("conv1", 32, 3, 3)
    for stage, count in enumerate((1, 2, 8, 8, 4), 1):
        inputs, outputs = 2 ** (stage + 4), 2 ** (stage + 5)
        told |= block(f"conv_res_block{stage}.conv", outputs, inputs, 3)
        for index in range(count):
            at = f"conv_res_block{stage}.res{index}"
            told |= block(f"{at}.conv1", inputs, outputs, 1) | block(f"{at}.conv2", outputs, inputs, 3)
    return told


def vgg() -> Tensors:
    """VGG-16 of Caffe, with its three layers of classes."""
    convolutions = ((0, 64), (2, 64), (5, 128), (7, 128), (10, 256), (12, 256), (14, 256), (17, 512), (19, 512), (21, 512))
    told: Tensors = {}
    inputs = 3
    for at, outputs in (*convolutions, (24, 512), (26, 512), (28, 512)):
        told |= {f"features.{at}.weight": (outputs, inputs, 3, 3), f"features.{at}.bias": (outputs,)}
        inputs = outputs
    return told | layer("classifier.0", 4096, 25088) | layer("classifier.3", 4096, 4096) | layer("classifier.6", 1000, 4096)


def shufflenet(channels: Shape) -> Tensors:
    """torchvision's ShuffleNetV2. channels: of the stem, three stages and the last convolution."""

    def convolution(at: str, number: int, outputs: int, inputs: int, kernel: int) -> Iterator[tuple[str, Shape]]:
        yield f"{at}.{number}.weight", (outputs, inputs, kernel, kernel)
        yield from norm(f"{at}.{number + 1}", outputs).items()

    told: Tensors = dict(convolution("conv1", 0, channels[0], 3, 3))
    for stage, (inputs, outputs, count) in enumerate(zip(channels, channels[1:4], (4, 8, 4), strict=False), 2):
        half = outputs // 2
        for index in range(count):
            at, taken = f"stage{stage}.{index}", half if index else inputs
            if index == 0:
                told |= dict(convolution(f"{at}.branch1", 0, inputs, 1, 3)) | dict(convolution(f"{at}.branch1", 2, half, inputs, 1))
            told |= dict(convolution(f"{at}.branch2", 0, half, taken, 1)) | dict(convolution(f"{at}.branch2", 3, half, 1, 3))
            told |= dict(convolution(f"{at}.branch2", 5, half, half, 1))
    return told | dict(convolution("conv5", 0, channels[4], channels[3], 1)) | layer("fc", 1000, channels[4])


def caffe(blocks: Shape) -> Tensors:
    """Detectron's ResNet, converted: no layer of classes, and a bias in its first convolution that no ResNet of mmdet has."""
    return resnet(blocks, bottleneck=True, counted=False, classified=False) | {"conv1.bias": (64,)}


R50, R101 = (3, 4, 6, 3), (3, 4, 23, 3)
PUBLISHED: dict[str, Tensors] = {
    "imagenet/resnet18": resnet((2, 2, 2, 2), bottleneck=False, counted=False),
    "imagenet/resnet34": resnet(R50, bottleneck=False, counted=False),
    "imagenet/resnet50": resnet(R50, bottleneck=True, counted=False),
    "imagenet/resnet101": resnet(R101, bottleneck=True, counted=False),
    "imagenet/resnet50_caffe": caffe(R50),
    "imagenet/resnet50_msra": caffe(R50),
    "imagenet/resnet101_caffe": caffe(R101),
    "imagenet/resnext101_32x4d": resnet(R101, bottleneck=True, groups=32, base=4),
    "imagenet/resnext101_64x4d": resnet(R101, bottleneck=True, groups=64, base=4),
    "imagenet/regnetx_800mf": regnet(),
    "imagenet/darknet53": darknet(),
    "imagenet/vgg16": vgg(),
    "imagenet/shufflenetv2_0.5": shufflenet((24, 48, 96, 192, 1024)),
    "imagenet/shufflenetv2_1.0": shufflenet((24, 116, 232, 464, 1024)),
}
