"""`retort gc`: what is stored and no longer needed, and its removal."""

from typing import Annotated

import typer

from api.command.output import Json, print_json
from studies.inert import one_line

TITLES = {
    "states": "last states of finished trials",
    "folders": "folders of trials that nothing refers to",
    "notes": "Ray Tune's notes of attempts that are over",
    "events": "events of trials and epochs, by study",
    "points": "points of all epochs but the last, by study",
}
LINE = "{:<46}{:>8}{:>12}{:>12}"


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="remove it [only show it]")] = False,
    after: Annotated[
        float | None,
        typer.Option(metavar="DAYS", min=0, help="for files, in place of RETORT_GC_STATES and RETORT_GC_FOLDERS of the service"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what is stored and no longer needed, by the service's policy; with --yes, remove it. Results are always kept."""
    from api.client import Client

    client = Client()
    found = client.collect_garbage(after) if yes else client.garbage(after)
    if as_json:
        print_json(found)
        return
    if not found["items"]:
        typer.echo("nothing to remove")
        return
    typer.echo(LINE.format("", "how many", "rows", "size"))
    for item in found["items"]:
        size = human(item["bytes"]) if item["bytes"] else ""
        typer.echo(LINE.format(one_line(TITLES.get(item["kind"], item["kind"])), item["count"], item["rows"] or "", size))
    typer.echo(
        f"removed, {human(found['bytes'])}"
        if yes
        else f"{human(found['bytes'])} to remove; nothing was changed. Remove it: retort gc --yes"
    )


def human(size: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
