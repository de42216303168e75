"""When the trials of a study had devices, from the events of the study."""

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.machine import Group, TrialState
from orchestrator.records.schema import Event


@dataclass(frozen=True)
class Stay:
    """A trial on its devices, in milliseconds since 1970. outcome: the state it went to; running, with no end, while it is there."""

    trial: str
    began: int
    ended: int | None
    outcome: TrialState


def stays(events: Iterable[Event]) -> list[Stay]:
    """Of a study's events, oldest first; in order of their beginning."""
    began: dict[str, int] = {}
    found = []
    for event in events:
        if event.kind == "trial":
            name, state = event.data["trial"], TrialState(event.data["state"])
            if name in began:
                found.append(Stay(name, began.pop(name), event.time, state))
            if state == TrialState.RUNNING:
                began[name] = event.time
        elif event.kind == "trials" and event.data["group"] in (Group.RUNNING, Group.OPEN):
            found += [Stay(name, start, event.time, TrialState(event.data["state"])) for name, start in began.items()]
            began.clear()
    found += [Stay(name, start, None, TrialState.RUNNING) for name, start in began.items()]
    return sorted(found, key=lambda stay: (stay.began, stay.trial))
