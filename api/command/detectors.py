"""`retort detectors`: detectors of one's own, registered on this machine from mmdet config files. No request can name one."""

from pathlib import Path
from typing import Annotated

import typer

from api.command.output import Json, tell

app = typer.Typer(help="Look after detectors of your own ($RETORT_HOME/detectors).", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Commands below `retort detectors`."""


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="what a spec calls it")],
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="an mmdet config file; it is run here, once")],
    title: Annotated[str | None, typer.Option("--title", help="as tables print it")] = None,
    as_json: Json = False,
) -> None:
    """Register the network of an mmdet config file."""
    from contextlib import redirect_stdout
    from sys import stderr

    from studies.own_detectors import OwnDetectorError, path_of

    try:
        with redirect_stdout(stderr):  # mmdet prints while it is imported
            from workers.detectors.registering import register_detector

            own = register_detector(name, config, title)
    except OwnDetectorError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    traits = sorted(own.traits)
    tell(
        as_json,
        {"name": name, "title": own.title, "file": str(path_of(name)), "traits": traits, "strides": list(own.strides)},
        str(path_of(name)),
        f"offers {', '.join(traits)}; pyramid strides {', '.join(map(str, own.strides))}",
        f"in a spec: {{detector: {name}, backbone: as_configured}}",
    )
