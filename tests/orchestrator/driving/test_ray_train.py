"""Processes that Ray Train starts for a trial: where they are, what they see, and how they end. That they train, and are tried again, is
held on a whole stack in `tests/faults/test_processes.py`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

# One of the processes, with one that loads its images; told to, both stand still.
MEMBER = """
import os, subprocess, sys
from orchestrator.driving.trials.lifeline import end_with
end_with(sys.argv[1])
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


# A trial on the second node of a Ray, whose GPUs are only said to be there: what its two processes say. In its second run one dies.
TRIAL = """
import json, os, signal, sys, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from ray.util.state import list_actors
from orchestrator.driving.trials.ray_train import with_train

def part(dies, said):
    from torch import distributed
    rank, sees = distributed.get_rank(), os.environ["CUDA_VISIBLE_DEVICES"]
    where, granted = ray.get_runtime_context().get_node_id(), ray.get_runtime_context().get_assigned_resources()
    print("rank", rank, flush=True)
    said.put([rank, distributed.get_world_size(), distributed.get_backend(), where, sees, sorted(granted)])
    distributed.barrier()
    if dies and rank:
        os.kill(os.getpid(), signal.SIGKILL)
    while dies:
        time.sleep(1)

@ray.remote(num_cpus=1, num_gpus=2)
def trial(dies):
    with with_train(output, lambda said: part(dies, said), 2, False) as trained:
        told = sorted(trained.said.get(timeout=300) for _ in range(2))
        while trained.running():
            time.sleep(0.1)
    return [ray.get_runtime_context().get_node_id(), os.environ["CUDA_VISIBLE_DEVICES"], told, trained.lost()]

output = Path(sys.argv[1])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": True, "dashboard_port": 0})
cluster.add_node(num_cpus=1, num_gpus=2)
ray.init(address=cluster.address, log_to_driver=False)
before = ray.cluster_resources()
came_to = [ray.get(trial.remote(dies)) for dies in (False, True)]
deadline = time.monotonic() + 60

def alive():
    return [actor.class_name for actor in list_actors(address=cluster.address) if actor.state != "DEAD"]

while (alive() or ray.available_resources() != before) and time.monotonic() < deadline:
    time.sleep(0.5)
print(json.dumps({"runs": came_to, "left": alive(), "free": ray.available_resources() == before}))
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.slow
def test_members_are_where_the_trial_is_see_its_devices_take_nothing_more_and_leave_nothing(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", TRIAL, str(tmp_path / "output.log")], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    came_to = json.loads(ended.stdout.splitlines()[-1])
    for node, sees, told, _ in came_to["runs"]:
        assert sees == "0,1"
        assert [said[:5] for said in told] == [[rank, 2, "gloo", node, sees] for rank in (0, 1)]
        assert not any(name in ("CPU", "GPU", "memory") for said in told for name in said[5])
    assert came_to["runs"][0][3] is None
    assert came_to["runs"][1][3].startswith("process 1 of 2 ended: The actor ")
    assert (came_to["left"], came_to["free"]) == ([], True)
    assert sorted((tmp_path / "output.log").read_text().split("\n")) == ["", *["rank 0"] * 2, *["rank 1"] * 2]
