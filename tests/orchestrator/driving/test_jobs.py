"""What is told of a driver that ended."""

import pytest

from orchestrator.cluster.ray_api import Job
from orchestrator.driving.jobs import _outcome

ENTRY = "Running entrypoint for job study-3-a1: exec python -P -m orchestrator.driving.driver 3 1"
FAILED = "Job entrypoint command failed with exit code -9, last available logs (truncated to 20,000 chars):"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("", "its driver ended"),
        (f"{FAILED}\n{ENTRY}\n", "its driver ended: Job entrypoint command failed with exit code -9"),
        (f"{FAILED}\n{ENTRY}\nMemoryError: out of memory\n", "its driver ended: MemoryError: out of memory"),
    ],
)
def test_a_driver_without_last_words_is_told_by_how_it_ended(message: str, told: str) -> None:
    assert _outcome(Job("FAILED", message)) == told
