"""How many trials of one teacher may share the devices of one grant, as a group. Pure.

A group saves its teacher's work and lengthens the wait for its last member. So trials are spread over all devices first: of N that are
ready and D places for such trials on the whole cluster, at most N / D (rounded up) go together. D places could not be through with N
trials any sooner, even if all were free at once; so with trials that are about equal no study ends later for its groups.
"""

from collections.abc import Collection, Mapping

from orchestrator.broker.cluster import Need, Resources
from orchestrator.broker.situation import Decision, Situation

MOST_MEMBERS = 8  # each holds its weights and its optimizer's state in the memory of one process


def members(situation: Situation, decision: Decision, grouping: Collection[int]) -> dict[int, int]:
    """By granted trial, how many may share its devices, where that is more than one. grouping: studies whose trials may."""
    granted = {grant.trial for grant in decision.grants}
    found = {}
    for study in set(grouping) & situation.ready.keys():
        ready = situation.ready[study]
        for trial in ready:
            if trial.id in granted:
                most = situation.owners[owner].devices if (owner := situation.studies[study].owner) in situation.owners else None
                share = -(-len(ready) // places(trial.need, situation.nodes, most))
                if share > 1:
                    found[trial.id] = min(share, MOST_MEMBERS)
    return found


def places(need: Need, nodes: Mapping[str, Resources], most_devices: float | None) -> int:
    """How many such trials the cluster has room for when it is idle, and their owner may have at once; at least one."""
    if need.workers > 1:
        return 1
    room = sum(_times(need.each, has) for has in nodes.values())
    return max(1, room if most_devices is None else min(room, int(most_devices // need.devices)))


def _times(each: Resources, has: Resources) -> int:
    parts = ((each.cpus, has.cpus), (each.gpus, has.gpus), (each.memory, has.memory))
    return min((int(there / wanted + 1e-9) for wanted, there in parts if wanted > 0), default=1)
