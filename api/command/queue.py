"""`retort queue`, `priority`, `pause`, `unpause`, `quota` and `timeline`: who has devices, who waits for them, and who comes first."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.command.output import Json, print_json, tell
from studies.inert import one_line

if TYPE_CHECKING:
    from api.client import Client

StudyId = Annotated[int, typer.Argument(metavar="ID", min=1, help="number of a study (retort list)")]


def queue(as_json: Json = False) -> None:
    """Show who waits for devices, why, and when they are thought to come."""
    places = _client().queue()
    tell(as_json, places, *([one_line(_told(place)) for place in places] or ["nothing waits for devices"]))


def priority(
    study: StudyId, priority: Annotated[int, typer.Argument(metavar="N", min=-100, max=100, help="0 at first")], as_json: Json = False
) -> None:
    """Set a study's priority: the higher the sooner, and trials of lower priority make room. A negative one stands behind `--`."""
    answer = _client().prioritize(study, priority)
    tell(as_json, answer, f"study {answer['id']} has priority {answer['priority']}")


def pause(study: StudyId, as_json: Json = False) -> None:
    """Start no trial of a study; those that run leave their devices at the next checkpoint, and go on later."""
    answer = _client().pause(study)
    tell(as_json, answer, f"study {answer['id']} is paused; it goes on with: retort unpause {study}")


def unpause(study: StudyId, as_json: Json = False) -> None:
    """Let a paused study go on."""
    answer = _client().unpause(study)
    tell(as_json, answer, f"study {answer['id']} goes on")


def quota(
    owner: Annotated[str | None, typer.Argument(metavar="[OWNER]", help="who [all]")] = None,
    devices: Annotated[float | None, typer.Option(help="at once, most; GPUs, of trials without any CPUs")] = None,
    hours: Annotated[float | None, typer.Option(help="device-hours a month, most")] = None,
    weight: Annotated[float | None, typer.Option(help="of the share where several want devices [1]")] = None,
    unlimited: Annotated[bool, typer.Option("--unlimited", help="take the limits away that stood before")] = False,
    as_json: Json = False,
) -> None:
    """Show what owners may have and have had; with options, change it for one of them."""
    client = _client()
    wanted = {name: value for name, value in (("devices", devices), ("hours", hours), ("weight", weight)) if value is not None}
    if owner is None and (wanted or unlimited):
        raise typer.BadParameter("whose quota?", param_hint="OWNER")
    if owner is not None and (wanted or unlimited):
        stood: dict[str, Any] = next((each for each in client.owners() if each["name"] == owner), {})
        kept = {name: stood[name] for name in (("weight",) if unlimited else ("devices", "hours", "weight")) if name in stood}
        client.set_quota(owner, kept | wanted)
    shown = [each for each in client.owners() if owner in (None, each["name"])]
    nobody = "nobody has a quota or has used devices" if owner is None else f"{owner} has no quota and has used no devices"
    tell(as_json, shown, *map(one_line, [_owner(each) for each in shown] or [nobody]))


def timeline(
    studies: Annotated[list[int], typer.Argument(metavar="ID...", min=1, help="numbers of studies (retort list)")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="where it goes [timeline-ID.json]")] = None,
    as_json: Json = False,
) -> None:
    """Write when the trials of studies had devices, as a trace that https://ui.perfetto.dev shows."""
    client = _client()
    answers = [client.timeline(study) for study in studies]
    if as_json:
        print_json(answers[0] if len(answers) == 1 else answers)
        return
    file = out or Path(f"timeline-{'-'.join(map(str, studies))}.json")
    file.write_text(json.dumps(trace(answers)))
    typer.echo(f"{file}: {sum(len(answer['items']) for answer in answers)} stays on devices; open it at https://ui.perfetto.dev")


COMMANDS: dict[str, Callable[..., None]] = {
    "queue": queue,
    "priority": priority,
    "pause": pause,
    "unpause": unpause,
    "quota": quota,
    "timeline": timeline,
}


def trace(timelines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Timelines of studies as Chrome's trace events, in microseconds. A lane of a study holds one trial at a time, and there are as few as
    that takes."""
    events: list[dict[str, Any]] = []
    for timeline in timelines:
        study, name = timeline["study"], f"study {timeline['study']}: {one_line(timeline['name'])}"
        events.append({"name": "process_name", "ph": "M", "pid": study, "args": {"name": name}})
        free: list[float] = []  # when each lane's last trial ended
        for stay in timeline["items"]:
            began = _microseconds(stay["began"])
            ended = max(_microseconds(stay["ended"]) if stay["ended"] else datetime.now().timestamp() * 1e6, began)
            lane = next((number for number, end in enumerate(free) if end <= began), len(free))
            free[lane : lane + 1] = [ended]
            told = {"name": one_line(stay["trial"]), "cat": stay["outcome"], "args": {"outcome": stay["outcome"]}}
            events.append({**told, "ph": "X", "ts": began, "dur": ended - began, "pid": study, "tid": lane + 1})
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _microseconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp() * 1e6


def _told(place: dict[str, Any]) -> str:
    start = f", about {datetime.fromisoformat(place['expected']).astimezone():%Y-%m-%d %H:%M}" if place["expected"] else ""
    whose = f" of {place['owner']}" if place["owner"] else ""
    has = f", {place['running']} running" if place["running"] else ""
    urgent = f", priority {place['priority']}" if place["priority"] else ""
    about = f"{place['place']}. study {place['study']}: {place['name']}{whose} ({place['ready']} ready{has}{urgent})"
    return f"{about}: {place['reason']}{start}"


def _owner(owner: dict[str, Any]) -> str:
    number = "any number of" if owner["devices"] is None else f"{owner['devices']:g}"
    devices = f"{number} {'device' if owner['devices'] == 1 else 'devices'}"
    hours = "" if owner["hours"] is None else f" of {owner['hours']:g}"
    return f"{owner['name']}: {devices} at once, {owner['month_hours']:.1f}{hours} device-hours this month, weight {owner['weight']:g}"


def _client() -> "Client":
    from api.client import Client

    return Client()
