"""A short form of `python -m tests.faults.chaos`: a few random kills over every process of the stack while a study runs."""

import random

from tests.faults.chaos import Chaos
from tests.faults.conftest import Bench


def test_a_study_under_random_kills_ends_as_an_undisturbed_one(bench: Bench, undisturbed: int) -> None:
    chaos = Chaos(bench, random.Random(3), pause=5.0, stops=0.0, shapes=[{}])  # what stands still has a test of its own
    chaos.run(4)
    assert len(chaos.hits) == 4
