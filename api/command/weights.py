"""`retort weights`: the store of pretrained weights that trials start from; nothing is ever downloaded by a trial."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.command.output import Json, print_json, tell

if TYPE_CHECKING:
    from workers.weights.store import Entry, Store

app = typer.Typer(help="Look after pretrained weights ($RETORT_HOME/weights).", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="imagenet/BACKBONE, zoo/CONFIG, or a name of your own")]


@app.command()
def fetch(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="imagenet/BACKBONE, zoo/CONFIG of mmdet's zoo, or a name of your own")
    ],
    address: Annotated[str | None, typer.Option("--from", metavar="ADDRESS", help="where a name of your own comes from (https)")] = None,
    as_json: Json = False,
) -> None:
    """Download weights to the store, check their sha256 against the published one, and list them in its manifest."""
    if address and len(names) > 1:
        raise typer.BadParameter("one name with one address", param_hint="--from")
    store = _store()
    fetched = []
    for name in names:
        with _told():
            fetched.append(_fetched(store, name, address))
        if not as_json:
            typer.echo(_line(fetched[-1]))
    if as_json:
        print_json([asdict(entry) for entry in fetched])


@app.command("import")
def import_(
    name: Name, file: Annotated[Path, typer.Argument(metavar="FILE", help="a checkpoint on this machine")], as_json: Json = False
) -> None:
    """Copy a file of this machine to the store."""
    with _told():
        entry = _store().import_file(name, file)
    tell(as_json, asdict(entry), _line(entry))


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List what is in the store, with its source, and whether each file is still the one that was taken."""
    store = _store()
    entries = store.entries()
    if as_json:
        print_json([{**asdict(entry), "state": store.state(entry)} for entry in entries.values()])
        return
    if not entries:
        typer.echo(f"nothing in {store.folder}; get weights with: retort weights fetch imagenet/resnet50")
        return
    width = max(len(name) for name in entries)
    for entry in entries.values():
        typer.echo(f"{entry.name:<{width}}  {store.state(entry):<8}  {entry.sha256[:16]}  {entry.bytes / 1e6:8.1f} MB  {entry.source}")


def _store() -> "Store":
    from studies.home import retort_home
    from workers.weights.store import Store

    return Store(retort_home() / "weights")


def _fetched(store: "Store", name: str, address: str | None) -> "Entry":
    """Fetches with a bar of the bytes, where there is a terminal to show it."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), DownloadColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=None)
        return store.fetch(name, address, lambda done, of: progress.update(task, completed=done, total=of))


def _line(entry: "Entry") -> str:
    return f"{entry.name}  {entry.bytes / 1e6:.1f} MB  sha256 {entry.sha256}"


@contextmanager
def _told() -> Iterator[None]:
    """What a person can mend becomes a line and exit status 1."""
    from workers.weights.store import WeightsError

    try:
        yield
    except WeightsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
