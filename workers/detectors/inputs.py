"""What a network is given: its own order of channels, mean and deviation; and a teacher's images beside its student's.

Networks that start from different weights see the same picture in different numbers: Caffe's take BGR as it is, torchvision's RGB
over its deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmengine.model import BaseDataPreprocessor
from torch import Tensor
from torch.nn import functional as F

from studies.trial import TrialFailure
from workers.detectors.mixup import blended


@dataclass(frozen=True)
class Input:
    """What a preprocessor makes of a picture's pixels (BGR, 0 to 255): (x - mean) / std in `order`."""

    order: str  # "RGB" or "BGR"
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.order} minus {_listed(self.mean)} over {_listed(self.std)}"


def _listed(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def input_of(preprocessor: Any) -> Input:
    """What mmdet's preprocessor gives its network; `preprocessor`: the built module or its config."""
    if isinstance(preprocessor, dict):
        order, mean, std = preprocessor["bgr_to_rgb"], preprocessor["mean"], preprocessor["std"]
    else:
        order, mean, std = preprocessor._channel_conversion, preprocessor.mean.flatten().tolist(), preprocessor.std.flatten().tolist()
    # As float32 has them, to four digits: configs print no more.
    return Input("RGB" if order else "BGR", *(tuple(round(float(value), 4) for value in values) for values in (mean, std)))


def same_batches(first: Any, second: Any) -> bool:
    """Whether two preprocessors make the same batch of the same images."""
    return input_of(first) == input_of(second) and first.pad_size_divisor == second.pad_size_divisor and first.pad_value == second.pad_value


class PairedPreprocessor(BaseDataPreprocessor):
    """A student's preprocessor that gives its teacher the same images as the teacher takes them, from the same raw pixels.

    Its batch is the student's with `teacher_inputs` (N, 3, H, W) added, of the shape of the student's `inputs`.
    """

    def __init__(self, student: Any, teacher: Any) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """The batch. Raises TrialFailure("user") where the teacher's images cannot have the student's shape."""
        data = self.cast_data(data)  # once: both take the pixels from the device
        batch: dict[str, Any] = self.student(data, training)
        taught = self.teacher({"inputs": data["inputs"], "data_samples": None}, False)["inputs"]
        samples = batch["data_samples"]
        if training and samples:
            taught = blended(taught, samples)
        return batch | {"teacher_inputs": self._of_shape(taught, batch["inputs"])}

    def _of_shape(self, taught: Tensor, inputs: Tensor) -> Tensor:
        height, width = (int(ours) - int(theirs) for ours, theirs in zip(inputs.shape[-2:], taught.shape[-2:], strict=True))
        if height < 0 or width < 0:
            raise TrialFailure(
                "user",
                f"the teacher's images are padded to multiples of {self.teacher.pad_size_divisor} pixels and the student's to multiples of "
                f"{self.student.pad_size_divisor}, so their features do not lie on each other; choose networks of one kind",
            )
        return F.pad(taught, (0, width, 0, height), value=self.teacher.pad_value) if height or width else taught


def preprocessor_of(student: Any, teacher: Any) -> Any:
    """The preprocessor of a student under a teacher (both mmdet models): its own where the teacher takes the same batches."""
    own, other = student.data_preprocessor, teacher.data_preprocessor
    return own if same_batches(own, other) else PairedPreprocessor(own, other)
