"""What commands share when they print data: `--json` gives what the service answered, for programs."""

import json
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="as JSON, for programs")]


def tell(as_json: bool, data: Any, *lines: str) -> None:
    """What a command came to: its data for programs, or its lines for people."""
    if as_json:
        print_json(data)
        return
    for line in lines:
        typer.echo(line)


def print_json(data: Any) -> None:
    """Data as it came, one document, in ASCII: nothing in it can act on a terminal."""
    typer.echo(json.dumps(data, indent=2))
