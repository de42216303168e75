"""What owners have had of the cluster: counted on while their trials hold devices, written down now and then."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from orchestrator.broker.cluster import Resources
from orchestrator.broker.situation import Owner, RunningTrial
from orchestrator.broker.usage import after
from orchestrator.records.owners import Used
from orchestrator.records.schema import Owner as OwnerRow

NONE_SECONDS = 1.0  # of the whole cluster, below which past use counts for nothing


def month_of(time: int) -> str:
    """The month (UTC) of a time in milliseconds since 1970: "2026-11"."""
    return datetime.fromtimestamp(time / 1000, UTC).strftime("%Y-%m")


def counted(
    rows: Sequence[OwnerRow], running: Sequence[RunningTrial], owner_of: Mapping[int, str], capacity: Resources, now: int
) -> dict[str, Used]:
    """What every owner has had by `now`, if what runs has run since it was counted last. owner_of: by study."""
    of_owner: dict[str, list[RunningTrial]] = {}
    for trial in running:
        of_owner.setdefault(owner_of[trial.study], []).append(trial)
    known, month = {row.name: row for row in rows}, month_of(now)
    found = {}
    for name in {*known, *of_owner}:
        row, trials = known.get(name), of_owner.get(name, [])
        began = row.time / 1000 if row else min(trial.started for trial in trials)
        seconds = max(0.0, now / 1000 - began)
        held = [(trial, min(seconds, max(0.0, now / 1000 - trial.started))) for trial in trials]  # for so long since it was counted last
        share = sum(trial.need.total.share_of(capacity) * took for trial, took in held) / seconds if seconds else 0.0
        lately = after(row.used if row else 0.0, share, seconds)
        hours = row.month_hours if row and row.month == month else 0.0
        hours += sum(trial.need.devices * took for trial, took in held) / 3600
        found[name] = Used(lately if trials or lately > NONE_SECONDS else 0.0, month, hours, now)
    return found


def told(rows: Sequence[OwnerRow], used: Mapping[str, Used]) -> dict[str, Owner]:
    """Owners as the broker is told of them."""
    known = {row.name: row for row in rows}
    found = {}
    for name, each in used.items():
        row = known.get(name)
        left = None if row is None or row.hours is None else row.hours - each.month_hours
        found[name] = Owner(each.lately, row.weight if row else 1.0, row.devices if row else None, left)
    return found
