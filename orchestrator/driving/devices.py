"""Whether a cluster has the devices that a trial wants, node by node: two nodes of two GPUs hold no trial that wants four."""

from collections.abc import Mapping, Sequence

from studies.spec import Resources


def lacking(nodes: Sequence[Mapping[str, float]], resources: Resources) -> str | None:
    """What keeps every node from holding a trial, in words; None where one can. nodes: what each has by Ray's names (CPU, GPU)."""
    wanted = {what: count for what, count in (("CPU", resources.cpus), ("GPU", resources.gpus)) if count}
    if any(all(node.get(what, 0) >= count for what, count in wanted.items()) for node in nodes):
        return None
    asked = " and ".join(f"{count:g} {what}{'s' if count > 1 else ''}" for what, count in wanted.items())
    there = "; ".join(sorted({_devices(node, wanted) for node in nodes})) or "there is no node"
    return f"a trial wants {asked} on one node, and no node has so many ({there})"


def _devices(node: Mapping[str, float], wanted: Mapping[str, float]) -> str:
    return "a node has " + " and ".join(f"{node.get(what, 0):g} {what}s" for what in wanted)
