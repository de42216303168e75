"""A look at where the time of a step goes: torch's profile of a few of them, as a trace that Perfetto opens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

TRACE = "profile.json.gz"
WARM_UP, STEPS = 4, 8  # batches before the trace (the first ones allocate and choose algorithms), and in it


class Profile:
    """Records batches `WARM_UP + 1` to `WARM_UP + STEPS` of the first epoch that it sees, and writes them to a file once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def over(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches as they are; what happens between two of them is a step of the trace."""
        if self.path.exists():
            yield from batches
            return
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        plan = schedule(wait=WARM_UP - 1, warmup=1, active=STEPS, repeat=1)
        with profile(activities=activities, schedule=plan, on_trace_ready=self._write) as record:
            for batch in batches:
                yield batch
                record.step()

    def _write(self, record: Any) -> None:
        record.export_chrome_trace(str(self.path))
