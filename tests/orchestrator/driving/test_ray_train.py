"""Processes that Ray has started end with the trial's own, without Ray's help; with it, `tests/faults/test_processes.py` has them."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

# One of the processes, with one that loads its images; told to, both stand still.
MEMBER = """
import os, subprocess, sys
from orchestrator.driving.ray_train import _end_with
_end_with(sys.argv[1])
loader = subprocess.Popen(["sleep", "600"])
print(loader.pid, flush=True)
loader.wait()
"""


def test_all_that_a_member_has_started_ends_with_the_trials_own_process_also_where_it_stands_still(tmp_path: Path) -> None:
    line = tmp_path / "line"
    os.mkfifo(line)
    command = [sys.executable, "-c", MEMBER, str(line)]
    held = os.open(line, os.O_RDWR)
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as still,
        subprocess.Popen(command, stdout=subprocess.PIPE) as at_work,
    ):
        assert still.stdout
        assert at_work.stdout
        there = [psutil.Process(int(line)) for member in (still, at_work) if member.stdout for line in [member.stdout.readline()]]
        there += [psutil.Process(member.pid) for member in (still, at_work)]
        for process in (there[0], there[2]):
            process.suspend()
        os.close(held)
        assert psutil.wait_procs(there, timeout=10)[1] == []
    late = subprocess.run(command, capture_output=True, check=False)
    assert (late.returncode, late.stdout) == (-9, b"")
