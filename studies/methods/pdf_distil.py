"""PDF-Distil."""

from typing import Literal

from pydantic import Field

from studies.methods.base import Method, Options


class PDFDistilOptions(Options):
    """PDF-Distil: prediction-difference weighted feature imitation (Zhang et al., BMVC 2021)."""

    variant: Literal["code", "paper"] = Field("code", description="normalisation: code = batch and all levels at once, paper = per level and image")
    difference: Literal["kl", "l1", "l2", "l2_root"] = Field("l2_root", description="dissimilarity F of class predictions")
    strategy: Literal["adaptive", "all", "most_different_50", "most_different_25", "most_similar_50", "most_similar_25"] = Field(
        "adaptive", description="which locations are distilled (Table 1 of the paper)"
    )
    factor: float = Field(5.0, ge=0, description="weight of the loss")


METHOD = Method(
    "pdf_distil",
    "PDF-Distil",
    "Zhang et al., PDF-Distil, BMVC 2021",
    PDFDistilOptions,
    "workers.distillers.pdf_distil:PDFDistil",
    student_traits=frozenset({"neck", "dense_logits"}),
    teacher_traits=frozenset({"neck", "dense_logits"}),
    same_detector="it compares class predictions cell by cell",
)
