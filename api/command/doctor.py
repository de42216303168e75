"""`retort doctor`: whether a deployment works, seen from the command's machine and from its service."""

from typing import TYPE_CHECKING

import typer

from api.command.output import Json, print_json
from studies.inert import one_line

if TYPE_CHECKING:
    from api.client import Client

Found = list[dict[str, str]]  # name, found, and mend: what to do, empty where it is well


def doctor(as_json: Json = False) -> None:
    """Check a deployment: service, database, MLflow, Ray and every node; says what to mend. Exit status 1 unless all is well."""
    from api.client import Client

    found = _found(Client())
    if as_json:
        print_json(found)
    else:
        for each in found:
            _show(each)
    raise typer.Exit(1 if any(each["mend"] for each in found) else 0)


def _found(client: "Client") -> Found:
    from api.client import Refused

    theirs = client.alive()["version"]
    service = {"name": "service", "found": f"{client.url}, version {theirs}", "mend": _same_version(theirs)}
    try:
        trouble = client.ready()["orchestrator"]["trouble"]
    except Refused:
        mend = "start it; RETORT_DATABASE_URL is its address. The service's log says what it answers"
        return [service, {"name": "database", "found": "does not answer the service", "mend": mend}]
    mend = "see its log; it may need one of those below" if trouble else ""
    orchestrator = {"name": "orchestrator", "found": trouble or "all its loops were seen a moment ago", "mend": mend}
    return [service, orchestrator, *client.checks()]


def _show(each: dict[str, str]) -> None:
    typer.echo(f"{'mend' if each['mend'] else 'ok  '} {one_line(each['name'])}: {one_line(each['found'])}")
    if each["mend"]:
        typer.echo(f"     -> {one_line(each['mend'])}")


def _same_version(theirs: str) -> str:
    from importlib.metadata import version

    ours = version("retort")
    return "" if theirs == ours else f"this command is of version {ours}; install {theirs}, or bring the service to {ours}"
