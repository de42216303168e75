"""Training recipes by scale: the schedule a network gets where the study says nothing."""

from studies.catalog import Scale
from studies.spec import Schedule

# nano: AdamW, linear warm-up, cosine decay. paper: the zoo's 1x schedule, its learning rate stated for 16 images.
RECIPES: dict[Scale, Schedule] = {
    "smoke": Schedule(epochs=1, batch_size=4, lr=1e-3, max_iterations=3),
    "nano": Schedule(epochs=4, batch_size=4, lr=2e-3),
    "paper": Schedule(epochs=12, batch_size=16, lr=1e-2),
}
# Base channels of a backbone where the study does not say; `paper` networks have their published width.
NANO_WIDTH = {"student": 8, "teacher": 16}


def with_defaults(schedule: Schedule, scale: Scale) -> Schedule:
    """The schedule with every value spelled out. A smoke run stays a smoke run whatever length the study asks for."""
    if scale == "smoke":
        return RECIPES["smoke"]
    return schedule.over(RECIPES[scale])
