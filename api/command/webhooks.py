"""`retort webhook`: addresses that are told when a study finished, failed or got worse."""

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.command.output import Json, print_json, tell
from studies.inert import one_line

if TYPE_CHECKING:
    from api.client import Client

app = typer.Typer(help="Tell other services what happens to studies.", no_args_is_help=True, rich_markup_mode=None)
WebhookId = Annotated[int, typer.Argument(metavar="ID", min=1, help="number of a webhook (retort webhook list)")]


class EventName(StrEnum):
    """What a webhook is told of."""

    FINISHED = "finished"
    FAILED = "failed"
    REGRESSION = "regression"


@app.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="what is told, by POST: https://receiver.example/retort")],
    on: Annotated[list[EventName] | None, typer.Option("--on", help="of what; may be given several times [all]")] = None,
    as_json: Json = False,
) -> None:
    """Tell an address of what happens to studies from now on; prints the secret that its messages are signed with, this once."""
    events = [f"study.{event}" for event in on or EventName]
    made = _client().add_webhook({"url": url, "events": events})
    if as_json:
        print_json(made)
        return
    typer.echo(f"webhook {made['id']}: {one_line(made['url'])}, its messages are signed with (not shown again):", err=True)
    typer.echo(made["secret"])


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List webhooks, oldest first."""
    found = _client().webhooks()
    if as_json:
        print_json(found)
        return
    for webhook in found:
        events = ", ".join(event.removeprefix("study.") for event in webhook["events"])
        typer.echo(f"{webhook['id']:>4}  {one_line(webhook['url'])}  ({events}; added by {one_line(webhook['owner'])})")


@app.command()
def show(webhook: WebhookId, as_json: Json = False) -> None:
    """Show a webhook and what became of its last messages."""
    found = _client().webhook(webhook)
    if as_json:
        print_json(found)
        return
    typer.echo(f"webhook {found['id']}: {one_line(found['url'])}")
    for delivery in found["deliveries"]:
        typer.echo(one_line(f"  {_told(delivery)}"))


@app.command()
def remove(webhook: WebhookId, as_json: Json = False) -> None:
    """Tell it nothing more."""
    _client().remove_webhook(webhook)
    tell(as_json, {"id": webhook, "removed": True}, f"webhook {webhook} is removed")


def _told(delivery: dict[str, Any]) -> str:
    """A message in a line: when, of what, what became of it, and why not."""
    last = delivery["tries"][-1] if delivery["tries"] else None
    why = f": {last['error']}" if last and last["error"] else ""
    again = f", next try {_shown(delivery['next'])}" if delivery["next"] else ""
    tries = f"{len(delivery['tries'])} {'try' if len(delivery['tries']) == 1 else 'tries'}"
    about = f"{delivery['event']}, study {delivery['content']['data']['study']}"
    return f"{_shown(delivery['created'])}  {about}: {delivery['state']} ({tries}{again}){why}"


def _shown(time: str) -> str:
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _client() -> "Client":
    from api.client import Client

    return Client()
