"""`retort schedule`: studies that are submitted again and again, by a cron expression."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from api.command.output import Json, print_json, tell

if TYPE_CHECKING:
    from api.client import Client

app = typer.Typer(help="Submit studies on a schedule.", no_args_is_help=True, rich_markup_mode=None)

ScheduleId = Annotated[int, typer.Argument(metavar="ID", min=1, help="number of a schedule (retort schedule list)")]


@app.command()
def add(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="a YAML file, or the id of a shipped study (retort catalog studies)")],
    cron: Annotated[str, typer.Option(help="minute, hour, day of month, month, day of week: '0 2 * * 6' is Saturdays at 02:00")],
    tz: Annotated[str, typer.Option(metavar="ZONE", help="whose clocks the times are read on: Europe/Paris")] = "UTC",
    scale: Annotated[Literal["smoke", "nano", "paper"] | None, typer.Option(help="instead of the scale in the spec")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="change the spec: schedule.epochs=2, 'seeds=[0,1]'")
    ] = None,
    misfire: Annotated[Literal["once", "skip"], typer.Option(help="missed times: one run for all of them, or none")] = "once",
    overlap: Annotated[
        Literal["skip", "queue", "replace"],
        typer.Option(help="while the study before is running: skip the time, queue one run, or replace that study"),
    ] = "skip",
    fresh: Annotated[bool, typer.Option("--fresh", help="train again in spite of finished equals")] = False,
    name: Annotated[str | None, typer.Option(help="[the study's]")] = None,
    as_json: Json = False,
) -> None:
    """Submit a study whenever the cron expression is due."""
    from api.command.specs import study_data

    wanted = {
        "study": study_data(study, scale, setting or []),
        "cron": cron,
        "tz": tz,
        "misfire": misfire,
        "overlap": overlap,
        "fresh": fresh,
        "source": study,
        **({"name": name} if name else {}),
    }
    made = _client().add_schedule(wanted)
    if as_json:
        print_json(made)
        return
    typer.echo(f"schedule {made['id']}: {made['name']} ({made['cron']} in {made['tz']}, scale {made['scale']})")
    for line in next_lines(made):
        typer.echo(line)
    typer.echo(f"its runs: retort schedule show {made['id']}")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List schedules, oldest first."""
    items = _client().schedules()
    if as_json:
        print_json(items)
        return
    if not items:
        typer.echo("no schedule yet; add one: retort schedule add digits --cron '0 2 * * 6' --tz Europe/Paris")
        return
    for item in items:
        typer.echo(f"{item['id']:>4}  {item['name']}  ({item['cron']} in {item['tz']}, scale {item['scale']})")
        typer.echo(f"      next: {_when(item['next'][0], item['tz']) if item['next'] else 'paused'}    last: {_last(item)}")


@app.command()
def show(schedule: ScheduleId, as_json: Json = False) -> None:
    """Show a schedule, its last runs, and what moved in them."""
    found = _client().schedule(schedule)
    if as_json:
        print_json(found)
        return
    fresh = ", fresh" if found["fresh"] else ""
    typer.echo(f"schedule {found['id']}: {found['name']} ({found['cron']} in {found['tz']}, scale {found['scale']}{fresh})")
    typer.echo(f"missed times: {found['misfire']}; while the study before is running: {found['overlap']}")
    for line in ["paused"] if found["paused"] else next_lines(found):
        typer.echo(line)
    for run in found["runs"]:
        for line in run_lines(run, found["tz"]):
            typer.echo(line)


@app.command()
def pause(schedule: ScheduleId, as_json: Json = False) -> None:
    """Submit nothing of it until it is resumed."""
    found = _client().pause_schedule(schedule)
    tell(as_json, found, f"schedule {schedule} is paused; it goes on with: retort schedule resume {schedule}")


@app.command()
def resume(schedule: ScheduleId, as_json: Json = False) -> None:
    """Submit again what is due from now on."""
    found = _client().resume_schedule(schedule)
    tell(as_json, found, f"schedule {schedule} goes on", *next_lines(found))


@app.command()
def remove(schedule: ScheduleId, as_json: Json = False) -> None:
    """Submit nothing of it any more; its studies stay, and one that runs goes on."""
    _client().remove_schedule(schedule)
    tell(as_json, {"id": schedule, "removed": True}, f"schedule {schedule} is removed; its studies stay")


def next_lines(schedule: dict[str, Any]) -> list[str]:
    """The next times, on the clock of the zone and on the one here."""
    return [f"  next: {_when(time, schedule['tz'])}" for time in schedule["next"]]


def run_lines(run: dict[str, Any], zone: str) -> list[str]:
    """A run in a line, and what moved in it in a line each."""
    study = f", study {run['study']} ({run['state']})" if run["study"] else ""
    reason = f": {run['reason']}" if run["reason"] else ""
    lines = [f"  {_shown(run['due'], zone)}  {run['outcome']}{study}{reason}"]
    if run["moved"] is None:
        return lines
    if not run["moved"]:
        return [*lines, f"      nothing moved more than its noise since study {run['against']}"]
    for each in run["moved"]:
        side = "WORSE" if each["worse"] else "better"
        now = "no result" if each["now"] is None else f"{each['now']:.4g} (noise {each['noise']:.2g})"
        lines.append(f"      {side} than study {run['against']}: {each['title']}: {each['metric']} {each['before']:.4g} -> {now}")
    return lines


def _last(schedule: dict[str, Any]) -> str:
    run = schedule["last"]
    if run is None:
        return "none yet"
    study = f", study {run['study']} ({run['state']})" if run["study"] else ""
    worse = sum(each["worse"] for each in run["moved"] or [])
    return f"{_shown(run['due'], schedule['tz'])} {run['outcome']}{study}" + (f", {worse} WORSE" if worse else "")


def _when(time: str, zone: str) -> str:
    """A time on the clock of the zone, and on the one here."""
    return f"{_shown(time, zone)}, here {datetime.fromisoformat(time).astimezone().strftime('%Y-%m-%d %H:%M %Z')}"


def _shown(time: str, zone: str) -> str:
    from zoneinfo import ZoneInfo

    return datetime.fromisoformat(time).astimezone(ZoneInfo(zone)).strftime("%a %Y-%m-%d %H:%M %Z")


def _client() -> "Client":
    from api.client import Client

    return Client()
