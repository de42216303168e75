"""The fair queue on simulated clusters: how full the devices are, how fast it decides, how fair it is, how long the urgent wait.

    python -m benchmarks.broker [--plot docs/results/broker.svg]

The broker and the state machine are the real ones; the clock and the trials are made up (`orchestrator.broker.simulation`). The lower
bound of the makespan is the work divided by the devices. CPU seconds tell what it takes on a core of its own.
"""

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path

from orchestrator.broker.cluster import Need, Resources, whole
from orchestrator.broker.simulation import Outcome, SimulatedStudy, SimulatedTrial, Simulation
from orchestrator.figures.devices import draw

ONE, TWO, FOUR = (Need(Resources(2, 1), workers) for workers in (1, 2, 4))
SHORTEST, LONGEST = 1800.0, 7200.0  # seconds of a trial
DAY = 86_400.0
SHOWN = 10 * 3600.0  # of the plot: trials that started before


def cluster(nodes: int) -> dict[str, Resources]:
    """Nodes of eight GPUs."""
    return {f"node-{n}": Resources(64, 8) for n in range(nodes)}


def study(number: int, trials: int, rng: random.Random, submitted: float = 0.0) -> SimulatedStudy:
    """A teacher, two thirds of the rest its students; seven of ten trials on one GPU, the others on two or four."""

    def trial(name: str, needs: tuple[str, ...] = ()) -> SimulatedTrial:
        need = ONE if rng.random() < 0.7 else rng.choice([TWO, FOUR])
        return SimulatedTrial(name, need, rng.uniform(SHORTEST, LONGEST), needs)

    teacher = trial("teacher")
    students = [trial(f"trial-{n}", ("teacher",) if n % 3 else ()) for n in range(trials - 1)]
    return SimulatedStudy(number, f"owner {number % 5 + 1}", submitted, (teacher, *students))


def bound(studies: Sequence[SimulatedStudy], nodes: dict[str, Resources]) -> float:
    """Seconds that no order can beat."""
    return sum(t.seconds * t.need.total.gpus for s in studies for t in s.trials) / whole(nodes).gpus


def full(nodes: int, count: int, trials: int) -> Outcome:
    """Prints how near the makespan is to its bound, and what deciding took."""
    rng, there = random.Random(0), cluster(nodes)
    studies = [study(n, trials, rng) for n in range(count)]
    wall, cpu = time.perf_counter(), time.process_time()
    outcome = Simulation(there, studies, tick=30.0).run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    what = f"{count:,} x {trials} on {whole(there).gpus:.0f}"
    took = f"{outcome.makespan / 3600:.1f} h | {outcome.makespan / bound(studies, there):.3f}"
    print(f"| {what} | {took} | {outcome.decisions:,} | {cpu:.0f} s | {wall:.0f} s |", flush=True)
    return outcome


def fair() -> None:
    """Prints what two owners had of a day, one with many short trials and one with few long ones."""
    there = cluster(1)

    def work(number: int, owner: str, seconds: float, count: int) -> SimulatedStudy:
        return SimulatedStudy(number, owner, 0.0, tuple(SimulatedTrial(f"t{n}", ONE, seconds) for n in range(count)))

    studies = [work(1, "ada", 700.0, 1500), work(2, "bob", 5000.0, 300), work(3, "ada", 2000.0, 500)]
    outcome = Simulation(there, studies, tick=10.0).run(until=DAY)
    had = {owner: sum(s.end - s.start for s in outcome.spans if s.owner == owner) / (8 * DAY) for owner in ("ada", "bob")}
    print(f"two owners, a day: ada {had['ada']:.1%}, bob {had['bob']:.1%} of the devices")


def urgent(came: float, trials: int) -> Outcome:
    """Prints how long a study of high priority waits on a cluster that 20 others, of so many trials each, fill from the beginning."""
    rng = random.Random(1)
    studies = [study(n, trials, rng) for n in range(20)]
    gang = SimulatedTrial("gang", FOUR, 3600.0)
    outcome = Simulation(cluster(2), [*studies, SimulatedStudy(99, "urgent", came, (gang,), priority=5)], tick=1.0).run()
    waited, left = outcome.first_start(99) - came, sum(span.preempted for span in outcome.spans)
    print(f"a study of priority 5 on a cluster that was full for {came / 3600:.1f} h waited {waited:.0f} s; {left} trials made room")
    return outcome


def overtaken() -> None:
    """Prints how long a study of priority 0 waits while others of priority 2 would fill the cluster for ever."""
    there = cluster(1)
    stream = [SimulatedStudy(n, "ada", n * 3600.0, tuple(SimulatedTrial(f"t{k}", ONE, 3600.0) for k in range(8)), 2) for n in range(100)]
    low = SimulatedStudy(-1, "bob", 1800.0, (SimulatedTrial("t", ONE, 6 * 3600.0),))
    outcome = Simulation(there, [*stream, low], tick=10.0).run()
    stays = [span for span in outcome.spans if span.study == low.id]
    waited = (stays[0].start - low.submitted) / 3600
    print(f"a study of priority 0 under a stream of priority 2 waited {waited:.1f} h, and had its devices {len(stays)} time")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--plot", type=Path, help="an SVG of who had which devices")
    plot: Path | None = arguments.parse_args().plot
    print("| studies x trials on GPUs | makespan | of the bound | decisions | CPU time | wall time |")
    print("|---|---|---|---|---|---|")
    full(2, 100, 100)
    full(64, 1000, 10)
    print()
    fair()
    overtaken()
    urgent(3 * DAY, 60)
    outcome = urgent(20_000.0, 20)
    if plot:
        draw([span for span in outcome.spans if span.start < SHOWN], cluster(2)).savefig(plot)
        print(f"{plot}: the cluster of the last line")


if __name__ == "__main__":
    main()
