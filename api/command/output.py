"""What commands share when they print data: `--json` gives what the service answered, for programs."""

import json
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="as JSON, for programs")]


def print_json(data: Any) -> None:
    """Data as it came, one document, in ASCII: nothing in it can act on a terminal."""
    typer.echo(json.dumps(data, indent=2))
