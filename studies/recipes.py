"""Training recipes: how long a network trains, how its learning rate falls, which images it sees, and with which optimizer.

A recipe is chosen by name (`schedule.recipe`), else by scale, detector and dataset. It leaves the optimizer to the detector's family where
the model zoo does. Plain data: the service plans with it, and `workers` turns it into an mmengine schedule.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from studies.catalog import Scale, family_of, of_pdf_distil

Images = Literal["plain", "two_scales", "multi_scale", "ssd", "yolo", "pdf", "pdf_code"]
IMAGES: dict[Images, str] = {
    "plain": "one size, mirrored at random",
    "two_scales": "shorter side as the dataset's or smaller (1333x800 or 1333x640), mirrored at random",
    "multi_scale": "shorter side drawn between a smaller one and the dataset's (1333x480 to 1333x800, 2048x800 to 2048x1024), mirrored",
    "ssd": "enlarged canvas up to 4 times, random crop, mirrored, distorted colours",
    "yolo": "enlarged canvas up to 2 times, random crop, of 320 to 608 pixels, mirrored, distorted colours",
    "pdf": "enlarged canvas or random crop, mirrored, distorted colours, and pairs of images mixed until 80% of the epochs",
    "pdf_code": "enlarged canvas up to 2 times, random crop, mirrored, distorted colours, another size for every epoch until 80% of them",
}


@dataclass(frozen=True)
class WarmUp:
    """Learning rate of the first `iterations` steps: from `factor` of the full one up to it, or at `factor` all along."""

    iterations: int = 500
    factor: float = 0.001
    constant: bool = False


@dataclass(frozen=True)
class Optimizer:
    """An optimizer, its learning rate `lr` stated for `batch` images a step, and its warm-up.

    clip: largest norm of the gradient. bias_lr, bias_decay, norm_decay, backbone_lr: factors of the rate and the weight decay.
    eps: of AdamW. Weights whose gradients stay below it hardly move; others take steps of about the rate, however small their gradients.
    """

    lr: float
    batch: int = 16
    type: Literal["SGD", "AdamW"] = "SGD"
    momentum: float = 0.9  # of SGD
    eps: float = 1e-8
    weight_decay: float = 1e-4
    clip: float | None = None
    bias_lr: float = 1.0
    bias_decay: float = 1.0
    norm_decay: float = 1.0
    backbone_lr: float = 1.0
    warm_up: WarmUp | None = field(default_factory=WarmUp)


@dataclass(frozen=True)
class Pretraining:
    """How a backbone learns to tell single digits apart before detectors train it.

    `steps` of `batch` images, drawn from `crops` of `size` pixels; AdamW at most at `lr`. layer_steps: deeper backbones take fewer
    steps, so that steps times convolutions are no more than this.
    """

    crops: int = 16000
    size: int = 48
    steps: int = 1500
    layer_steps: int = 36_000
    batch: int = 64
    lr: float = 3e-3
    weight_decay: float = 0.05
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """A named training schedule.

    epochs: of `passes` passes over the images each. decay: epochs after which the rate is divided by 10, or "cosine" down to
    `floor` of it. largest: shorter and longer side of the largest images, in training and tests, in pixels; None: the dataset's.
    smallest: shorter side of the smallest training images over that of the largest. optimizer: None leaves it to
    the family (`OPTIMIZERS`). iterations: cuts every epoch after so many steps. average: what is evaluated and exported is a moving
    average of the weights that keeps this share of itself at every step. average_ramp: after n steps it keeps 1 - exp(-n / average_ramp) of
    that share; None: (1 + n) / (10 + n) at most. drawn_sides: sides of the images of an epoch over the network's own, one drawn for each
    epoch but the first and the last fifth. pretraining: what backbones have learnt before, at nano.
    val_interval: epochs from one evaluation to the next. smallest_box: pixels of the image as it is stored; boxes that are narrower or
    lower are not learnt (nor taken for background).
    """

    id: str
    title: str
    epochs: int
    decay: tuple[int, ...] | Literal["cosine"]
    images: Images = "plain"
    largest: tuple[int, int] | None = None
    smallest: float = 1.0
    passes: int = 1
    floor: float = 0.0
    optimizer: Optimizer | None = None
    iterations: int | None = None
    average: float | None = None
    average_ramp: int | None = None
    drawn_sides: tuple[float, ...] = ()
    pretraining: Pretraining | None = None
    val_interval: int = 1
    smallest_box: int | None = None

    def milestones(self, epochs: int) -> tuple[int, ...]:
        """Epochs after which the rate falls in a training of `epochs`: the recipe's own, moved in proportion."""
        if self.decay == "cosine":
            raise ValueError(f"recipe {self.id} has no milestones: its rate falls by a cosine")
        return tuple(round(at * epochs / self.epochs) for at in self.decay)


# Levels of the pyramid that hold no object have gradients of 1e-7 to 1e-10 a weight, the others of 1e-3: without eps AdamW blows them up.
_NANO = Optimizer(4e-3, 8, "AdamW", eps=1e-5, weight_decay=0.05, clip=10.0, backbone_lr=0.2, warm_up=WarmUp(200, 0.01))
_SMOKE = replace(_NANO, lr=1e-3, batch=4, backbone_lr=1.0, warm_up=WarmUp(50, 0.01))
_STUDENT = Recipe(
    "nano",
    "three epochs of AdamW from a pretrained backbone, for narrow networks on a CPU",
    3,
    "cosine",
    optimizer=_NANO,
    average=0.998,
    pretraining=Pretraining(),
)
_PDF = Optimizer(0.01, 32, weight_decay=5e-4, bias_decay=0.0, norm_decay=0.0, warm_up=WarmUp(500, 1e-4))
# As zhanghengdev/MutualGuide@85219f9 trains: distil.py, utils/{ema,lr_scheduler}.py.
_PDF_CODE = Recipe(
    "pdf-code-70e",
    "PDF-Distil's 70 epochs as its released code trains, for PASCAL VOC",
    70,
    "cosine",
    "pdf_code",
    floor=0.1,
    optimizer=replace(_PDF, warm_up=WarmUp(500, 0.1)),
    average=0.9998,
    average_ramp=2000,
    drawn_sides=(0.8, 1.0, 1.2),
)
RECIPES: dict[str, Recipe] = {
    r.id: r
    for r in (
        Recipe("smoke", "three steps", 1, "cosine", optimizer=_SMOKE, iterations=3),
        _STUDENT,
        replace(
            _STUDENT, id="nano-two-stage", title="nano in two epochs, for detectors with a RoI head, whose steps take longer", epochs=2
        ),
        replace(_STUDENT, id="nano-teacher", title="nano in four epochs, for its teachers", epochs=4),
        Recipe("1x", "the model zoo's 12 epochs", 12, (8, 11)),
        Recipe("2x", "the model zoo's 24 epochs", 24, (16, 22)),
        Recipe("20e", "the model zoo's 20 epochs", 20, (16, 19)),
        Recipe("25e", "the model zoo's 25 epochs (its '2x' of Grid R-CNN)", 25, (17, 23)),
        Recipe("ms-2x", "24 epochs on images of many sizes (the model zoo's GFL)", 24, (16, 22), "multi_scale", smallest=0.6),
        Recipe("ms-640-800-2x", "24 epochs on images of two sizes (the model zoo's FCOS)", 24, (16, 22), "two_scales", smallest=0.8),
        Recipe("273e", "the model zoo's 273 epochs of YOLOv3", 273, (218, 246), "yolo", smallest=320 / 608, val_interval=7),
        Recipe("120e", "the model zoo's 120 epochs of SSD, as 24 of five passes", 24, (16, 22), "ssd", passes=5),
        Recipe(
            "cityscapes-64e",
            "the model zoo's 64 epochs on Cityscapes, as 8 of eight passes",
            8,
            (7,),
            "multi_scale",
            smallest=800 / 1024,
            passes=8,
            optimizer=Optimizer(0.01, 8),
        ),
        Recipe(
            "voc-12e",
            "the model zoo's 12 epochs on PASCAL VOC, as 4 of three passes over images of 1000x600",
            4,
            (3,),
            largest=(600, 1000),
            passes=3,
            optimizer=Optimizer(0.01, warm_up=None),
            smallest_box=32,
        ),
        Recipe("ld-voc", "LD's 12 epochs on PASCAL VOC, as 4 of three passes (Zheng et al. 2022, supplement)", 4, (3,), passes=3),
        Recipe(
            "pdf-70e", "PDF-Distil's 70 epochs, for PASCAL VOC (Zhang et al. 2021, 4.1)", 70, "cosine", "pdf", floor=1e-4, optimizer=_PDF
        ),
        Recipe("pdf-140e", "PDF-Distil's 140 epochs, for COCO (Zhang et al. 2021, 4.1)", 140, "cosine", "pdf", floor=1e-4, optimizer=_PDF),
        _PDF_CODE,
        replace(_PDF_CODE, id="pdf-code-140e", title="PDF-Distil's 140 epochs as its released code trains, for COCO", epochs=140),
    )
}
# The zoo's optimizer of each family at paper scale.
ONE_STAGE, TWO_STAGE = Optimizer(0.01), Optimizer(0.02)
OPTIMIZERS: dict[str, Optimizer] = {
    "faster_rcnn": TWO_STAGE,
    "cascade_rcnn": TWO_STAGE,
    "dynamic_rcnn": TWO_STAGE,
    "grid_rcnn": replace(TWO_STAGE, warm_up=WarmUp(3665, 1 / 80)),
    "mask_rcnn": TWO_STAGE,
    "cascade_mask_rcnn": TWO_STAGE,
    "retinanet": ONE_STAGE,
    "fsaf": replace(ONE_STAGE, clip=10.0),
    "fcos": replace(ONE_STAGE, bias_lr=2.0, bias_decay=0.0, clip=35.0, warm_up=WarmUp(500, 1 / 3, constant=True)),
    "reppoints": ONE_STAGE,
    "atss": ONE_STAGE,
    "gfl": ONE_STAGE,
    "yolov3": Optimizer(0.001, 64, weight_decay=5e-4, clip=35.0, warm_up=WarmUp(2000, 0.1)),
    "ssd": Optimizer(0.002, 64, weight_decay=5e-4),
}
# Backbones that the zoo trains in another way.
REGNET = Optimizer(0.02, weight_decay=5e-5, clip=35.0)
# Forms of a family that are trained in another way: the zoo's improved FCOS, and LD's on it.
IMPROVED_FCOS = replace(OPTIMIZERS["fcos"], clip=None, warm_up=WarmUp(500, 1 / 3))
IN_FORM: dict[tuple[str, str], Optimizer] = {("fcos", "centre_sampling"): IMPROVED_FCOS, ("fcos", "distribution"): IMPROVED_FCOS}
USUAL: dict[str, str] = {"yolov3": "273e", "ssd": "120e"}  # recipe of a family at paper scale, wherever
USUAL_ON: dict[str, str] = {"voc": "voc-12e", "cityscapes": "cityscapes-64e"}  # and of the others on a dataset; elsewhere 1x
# Base channels of a backbone where the study does not say; `paper` networks have their published width.
NANO_WIDTH = {"student": 8, "teacher": 16}


def usual_recipe(scale: Scale, detector: str, form: str | None, dataset: str, teaches: bool = False) -> Recipe:
    """The recipe of a network where the study names none. teaches: whether it is the study's teacher, which trains longer at nano."""
    if scale == "nano":
        two_stage = _two_stage(detector)
        return RECIPES["nano-teacher" if teaches else "nano-two-stage" if two_stage else "nano"]
    if scale != "paper":
        return RECIPES[scale]
    if of_pdf_distil(form):
        return RECIPES["pdf-140e" if dataset == "coco" else "pdf-70e"]
    return RECIPES[USUAL.get(detector) or USUAL_ON.get(dataset, "1x")]


def optimizer_of(recipe: Recipe, detector: str, backbone: str, form: str | None) -> Optimizer:
    """The optimizer a network is trained with: the recipe's, else its form's, backbone's or family's in the zoo."""
    if recipe.optimizer:
        return recipe.optimizer
    if form and (detector, form) in IN_FORM:
        return IN_FORM[detector, form]
    if backbone.startswith("regnet"):
        return REGNET
    return OPTIMIZERS.get(detector) or (TWO_STAGE if _two_stage(detector) else ONE_STAGE)


def _two_stage(detector: str) -> bool:
    return "roi_head" in family_of(detector).traits
