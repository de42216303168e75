"""`retort token`, `retort link` and `retort audit`: who may do what, and who did what."""

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.command.output import Json, print_json, tell
from studies.inert import one_line

if TYPE_CHECKING:
    from api.client import Client

app = typer.Typer(help="Tokens: who may do what.", no_args_is_help=True, rich_markup_mode=None)


class ScopeName(StrEnum):
    """What a token allows."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="what it is for: 'nightly job'")],
    owner: Annotated[str | None, typer.Option(help="whose it is: what it submits is theirs [yours]")] = None,
    scope: Annotated[ScopeName, typer.Option(help="each holds those before it")] = ScopeName.SUBMIT,
    days: Annotated[int, typer.Option(min=0, max=3650, help="until it expires; 0: never")] = 90,
    as_json: Json = False,
) -> None:
    """Make a token and print it, this once."""
    made = _client().create_token({"name": name, "owner": owner, "scope": scope, "days": days or None})
    if as_json:
        print_json(made)
        return
    typer.echo(f"token {made['id']} of {one_line(made['owner'])}: {made['scope']}, {_until(made)}; it is not shown again", err=True)
    typer.echo(made["token"])


@app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="also those that expired or were revoked")] = False, as_json: Json = False
) -> None:
    """List tokens, oldest first."""
    shown = [token for token in _client().tokens() if everything or not (token["revoked"] or _over(token))]
    if as_json:
        print_json(shown)
        return
    for token in shown:
        used = f"used {_shown(token['used'])}" if token["used"] else "never used"
        state = "revoked" if token["revoked"] else _until(token)
        typer.echo(f"{token['id']:>4}  {token['scope']:<6}  {one_line(token['owner'])}: {one_line(token['name'])}  ({state}, {used})")


@app.command()
def revoke(
    token: Annotated[int, typer.Argument(metavar="ID", min=1, help="number of a token (retort token list)")], as_json: Json = False
) -> None:
    """Answer nothing to a token any more, nor to pages that were opened with it."""
    tell(as_json, _client().revoke_token(token), f"token {token} is revoked")


def link(as_json: Json = False) -> None:
    """Print a link that opens the service's pages once, within a quarter of an hour."""
    made = _client().link()
    tell(as_json, {"link": made}, made)


def audit(
    subject: Annotated[str | None, typer.Argument(metavar="[SUBJECT]", help="what it was done to: 'study 3' [anything]")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=200, help="how many")] = 20,
    as_json: Json = False,
) -> None:
    """Show who changed what, newest first."""
    acts = _client().audit(limit=limit, subject=subject)["items"]
    if as_json:
        print_json(acts)
        return
    for act in acts:
        detail = ", ".join(f"{name} {value}" for name, value in act["detail"].items())
        told = f"{_shown(act['time'])}  {act['owner']}  {act['action']}  {act['subject']}" + (f"  ({detail})" if detail else "")
        typer.echo(one_line(told))


def _until(token: dict[str, Any]) -> str:
    return f"until {_shown(token['expires'])}" if token["expires"] else "without an end"


def _over(token: dict[str, Any]) -> bool:
    return bool(token["expires"]) and datetime.fromisoformat(token["expires"]) <= datetime.now().astimezone()


def _shown(time: str) -> str:
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M")


def _client() -> "Client":
    from api.client import Client

    return Client()
