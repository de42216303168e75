"""PDF-Distil."""

from typing import Literal

from pydantic import Field

from studies.catalog import Detector
from studies.methods.base import Method, Options, filled

Strategy = Literal["all", "most_similar_25", "most_similar_50", "most_different_50", "most_different_25", "kl", "l1", "l2", "l2_root"]

STRATEGY: dict[str, Strategy] = {"code": "l2_root", "paper": "l2"}  # by variant


class PDFDistilOptions(Options):
    """PDF-Distil: feature imitation where the predictions of the two networks differ."""

    renamed = {"factor": "loss_weight"}

    variant: Literal["code", "paper"] = Field(
        "code", description="code: weights sum to 1 over the batch and all levels; paper: over each map, levels weigh alike"
    )
    strategy: Strategy | None = Field(
        None,
        description="row of the paper's Table 1: all samples equally, a hard share of them, or weighted by a dissimilarity; "
        "l2_root: root of the summed squares, which the released code calls L2; null: the variant's own (code: l2_root, paper: l2)",
    )
    adapter: Literal["1x1", "3x3"] = Field(
        "1x1", description="convolution that maps student to teacher channels: paper 1x1, code of 2021-10 3x3"
    )
    loss_weight: float = Field(5.0, ge=0, description="multiplies the loss; 0 leaves it out")


def _settle(options: PDFDistilOptions, student: Detector, teacher: Detector) -> PDFDistilOptions:
    return filled(options, strategy=STRATEGY[options.variant])


def _per_device(options: PDFDistilOptions) -> int | None:
    """The released code weighs the cells of all 32 images of its batch together; the paper each map by itself."""
    return None if options.variant == "paper" or options.strategy == "all" else 32


METHOD = Method(
    "pdf_distil",
    "PDF-Distil",
    "Zhang et al., PDF-Distil, BMVC 2021",
    PDFDistilOptions,
    "workers.distillers.pdf_distil:PDFDistil",
    student_traits=frozenset({"neck", "dense_logits"}),
    teacher_traits=frozenset({"neck", "dense_logits"}),
    same_detector="it compares class predictions cell by cell",
    per_device_images=_per_device,
    settle=_settle,
)
