"""What the broker knows when it decides, and what it decides. Plain records: times in seconds on one clock."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.broker.cluster import Need, Placement, Resources


@dataclass(frozen=True)
class QueuedStudy:
    """A study with trials that are ready or running. priority: the higher the sooner, 0 where nobody says. submitted: when it came.
    overtaken: since when it has had no devices while studies of higher priority had; None where that is not so."""

    id: int
    owner: str
    priority: int
    submitted: float
    overtaken: float | None = None


@dataclass(frozen=True)
class ReadyTrial:
    """A trial that could start. seconds: how long it is thought to take, None where nobody knows. path: seconds of the longest chain of
    trials that begins with it (a teacher's holds its students). order: place in the study."""

    id: int
    study: int
    need: Need
    seconds: float | None
    path: float
    order: int


def in_order(trials: Iterable[ReadyTrial]) -> list[ReadyTrial]:
    """A study's ready trials as they are to start: teachers before students, as the longest chain hangs on them."""
    return sorted(trials, key=lambda trial: (-trial.path, trial.order))


@dataclass(frozen=True)
class RunningTrial:
    """A trial on its devices. remaining: seconds that it is thought to need still, None where nobody knows. leaving: asked to make room.
    points: that its study had gained by waiting when it was granted."""

    id: int
    study: int
    need: Need
    nodes: Placement
    started: float
    remaining: float | None
    leaving: bool = False
    points: int = 0


@dataclass(frozen=True)
class Owner:
    """Who pays. used: device time of the recent past as a share of the whole cluster, in seconds of it, weighted down with age.
    weight: of its fair share. devices: most at once, None: no limit. hours_left: device-hours of this month that are left."""

    used: float = 0.0
    weight: float = 1.0
    devices: float | None = None
    hours_left: float | None = None


@dataclass(frozen=True)
class Situation:
    """All that a decision may depend on."""

    now: float
    nodes: Mapping[str, Resources]
    studies: Mapping[int, QueuedStudy]
    ready: Mapping[int, Sequence[ReadyTrial]]  # by study, the longest chain first (`in_order`)
    running: tuple[RunningTrial, ...]
    owners: Mapping[str, Owner] = field(default_factory=dict)  # those without an entry have no quota and have used nothing
    most_studies: int | None = None  # that may have devices at once; each takes a driver


@dataclass(frozen=True)
class Grant:
    """A trial may start; `nodes` is where the broker saw room, `points` what waiting had added to its study's priority."""

    trial: int
    nodes: Placement
    points: int = 0


@dataclass(frozen=True)
class Preemption:
    """A trial is to make room at its next checkpoint, for a trial of a study of higher priority; None: as its owner's hours are used up."""

    trial: int
    room_for: int | None


@dataclass(frozen=True)
class Decision:
    """waits: why a study's next trial does not start now, a sentence each. starts: by study, when the first blocked trial is thought to.
    lacking: of those that wait, the studies that more devices, or larger nodes, would help. overtaken: as of the studies, after this."""

    grants: tuple[Grant, ...] = ()
    preemptions: tuple[Preemption, ...] = ()
    waits: Mapping[int, str] = field(default_factory=dict)
    starts: Mapping[int, float] = field(default_factory=dict)
    lacking: tuple[int, ...] = ()
    overtaken: Mapping[int, float] = field(default_factory=dict)
