"""The driver that waits: it takes the next study's attempt, and whatever happens to it costs no study more than a moment."""

import signal
import subprocess
import sys
import time

import psutil

from orchestrator.driving.standby import READY
from tests.faults.conftest import Bench

LOG_OF = """
import sys
from orchestrator.cluster.ray_api import RayCluster
from orchestrator.settings import settings
print(RayCluster(settings().ray_jobs).log(sys.argv[1]))
"""


def waiting(bench: Bench) -> psutil.Process:
    """The driver that waits, loaded, and known to be so."""
    deadline = time.monotonic() + bench.patience
    while len(found := bench.processes("orchestrator.driving.driver standby-")) != 1 or READY not in log_of(bench, found[0]):
        assert time.monotonic() < deadline, found
        time.sleep(1)
    time.sleep(3)  # two looks of the loop
    return found[0]


def submission_of(driver: psutil.Process) -> str:
    return " ".join(driver.cmdline()).split()[-1]


def log_of(bench: Bench, driver: psutil.Process) -> str:
    command = [sys.executable, "-c", LOG_OF, submission_of(driver)]
    return subprocess.run(command, env=bench.stack.environment(), capture_output=True, text=True, check=False).stdout


def test_it_takes_the_next_study_and_another_one_waits(bench: Bench, undisturbed: int) -> None:
    driver = waiting(bench)
    submission = submission_of(driver)
    study = bench.submit("driven by the one that waited", force=True)
    bench.hold_against(study, undisturbed)
    (attempt,) = bench.store.attempts(study)
    assert (attempt.submission, attempt.outcome) == (submission, "done")
    assert submission_of(waiting(bench)) != submission


def test_one_that_stands_still_costs_a_study_no_loss(bench: Bench, undisturbed: int) -> None:
    driver = waiting(bench)
    driver.send_signal(signal.SIGSTOP)
    study = bench.submit("the driver that waits stands still", force=True)
    bench.hold_against(study, undisturbed)
    first, second = bench.store.attempts(study)
    assert (first.outcome, second.outcome) == ("the driver that waited did not answer", "done")
    psutil.wait_procs([driver], timeout=60)
    assert not driver.is_running()


def test_one_that_is_killed_costs_a_study_no_loss(bench: Bench, undisturbed: int) -> None:
    waiting(bench).kill()
    study = bench.submit("the driver that waits is killed", force=True)
    bench.hold_against(study, undisturbed)
    assert bench.store.attempts(study)[-1].outcome == "done"
    assert bench.store.study(study).stalls == 0


def test_a_service_that_starts_anew_ends_the_one_before(bench: Bench) -> None:
    before = waiting(bench)
    (service,) = bench.processes("orchestrator.service")
    service.kill()
    psutil.wait_procs([before], timeout=90)
    assert not before.is_running()
    assert waiting(bench).pid != before.pid
