"""Nodes, what a trial needs of them, and where it fits. Pure.

Placement is per node: two nodes of two GPUs hold no trial that needs four on one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

ROUNDING = 1e-9  # of fractional devices


@dataclass(frozen=True)
class Resources:
    """An amount of what a node has. gpus may be a fraction; memory in GiB."""

    cpus: float = 0.0
    gpus: float = 0.0
    memory: float = 0.0

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(self.cpus + other.cpus, self.gpus + other.gpus, self.memory + other.memory)

    def __sub__(self, other: "Resources") -> "Resources":
        return Resources(self.cpus - other.cpus, self.gpus - other.gpus, self.memory - other.memory)

    def __mul__(self, times: int) -> "Resources":
        return Resources(self.cpus * times, self.gpus * times, self.memory * times)

    def holds(self, wanted: "Resources") -> bool:
        return wanted.cpus <= self.cpus + ROUNDING and wanted.gpus <= self.gpus + ROUNDING and wanted.memory <= self.memory + ROUNDING

    def share_of(self, whole: "Resources") -> float:
        """The largest of its fractions of `whole`: what a fair division of several kinds of resources counts (dominant resource)."""
        parts = ((self.cpus, whole.cpus), (self.gpus, whole.gpus), (self.memory, whole.memory))
        return max(part / of for part, of in parts if of > 0) if any(of > 0 for _, of in parts) else 0.0


@dataclass(frozen=True)
class Need:
    """What a trial needs: `workers` processes with `each` on one node. All of them start together, or none does."""

    each: Resources
    workers: int = 1

    @cached_property
    def total(self) -> Resources:
        return self.each * self.workers

    @cached_property
    def devices(self) -> float:
        """What quotas count: GPUs, of a trial without any its CPUs."""
        return self.total.gpus or self.total.cpus


Free = dict[str, Resources]  # by node
Placement = tuple[str, ...]  # the node of every worker


def place(need: Need, free: Mapping[str, Resources]) -> Placement | None:
    """The nodes for a trial: one for all its workers where it fits, the fullest that holds them; else as few as possible."""
    wanted = need.total
    together = [node for node, has in free.items() if has.holds(wanted)]
    if together:
        node = min(together, key=lambda each: (free[each].gpus, free[each].cpus, each))
        return (node,) * need.workers
    if need.workers == 1:
        return None
    taken: list[str] = []
    for node in sorted(free, key=lambda each: (-free[each].gpus, -free[each].cpus, each)):
        has = free[node]
        while len(taken) < need.workers and has.holds(need.each):
            has = has - need.each
            taken.append(node)
    return tuple(taken) if len(taken) == need.workers else None


def fits(need: Need, where: Placement, free: Mapping[str, Resources]) -> bool:
    """Whether a placed trial finds its devices in `free`."""
    return all(node in free and free[node].holds(need.each * where.count(node)) for node in set(where))


def take(free: Free, need: Need, where: Placement) -> None:
    """Takes a placed trial's devices, in place; from a node that has left meanwhile, nothing."""
    for node in where:
        if node in free:
            free[node] = free[node] - need.each


def give(free: Free, need: Need, where: Placement) -> None:
    """Gives a trial's devices back, in place; a node that has left meanwhile gets nothing."""
    for node in where:
        if node in free:
            free[node] = free[node] + need.each


def holds_all(free: Mapping[str, Resources]) -> bool:
    """Whether no node has given more than it has."""
    return all(has.holds(Resources()) for has in free.values())


def whole(nodes: Mapping[str, Resources]) -> Resources:
    """All nodes added up."""
    return sum(nodes.values(), start=Resources())


def misfit(need: Need, nodes: Mapping[str, Resources]) -> str | None:
    """Why a trial can run nowhere, even on an idle cluster; None where it can."""
    if place(need, nodes):
        return None
    if not nodes:
        return "the cluster has no nodes"
    for what, wanted, largest, unit in (
        ("GPUs", need.each.gpus, max(node.gpus for node in nodes.values()), ""),
        ("CPUs", need.each.cpus, max(node.cpus for node in nodes.values()), ""),
        ("memory", need.each.memory, max(node.memory for node in nodes.values()), " GiB"),
    ):
        if wanted > largest + ROUNDING:
            return f"needs {wanted:g}{unit} {what[:-1] if wanted == 1 and not unit else what} on a node; the largest has {largest:g}{unit}"
    several = f"{need.workers} times " if need.workers > 1 else ""
    parts = [f"{need.each.cpus:g} CPUs", *([f"{need.each.gpus:g} GPUs"] if need.each.gpus else [])]
    return f"needs {several}{' and '.join(parts)} together; the nodes have {_listed(nodes.values())}"


def _listed(nodes: Iterable[Resources]) -> str:
    return ", ".join(sorted({f"{node.cpus:g} CPUs and {node.gpus:g} GPUs" for node in nodes}))
