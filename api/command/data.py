"""`retort data`: what is on this machine of a dataset, and what is wrong with it."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from api.command.output import Json, tell

if TYPE_CHECKING:
    from workers.datasets.check import Report

app = typer.Typer(help="Look after the datasets of this machine ($RETORT_HOME/data).", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Commands below `retort data`."""


@app.command()
def check(name: Annotated[str, typer.Argument(metavar="NAME", help="a dataset: retort catalog datasets")], as_json: Json = False) -> None:
    """Read every file of a dataset and say what is there, missing or broken. Exit status 1 unless all is well."""
    from rich.console import Console
    from rich.progress import Progress

    from studies.home import retort_home
    from studies.trial import TrialFailure
    from workers.datasets import check as look
    from workers.datasets import prepare

    data = retort_home() / "data"
    try:
        if name == "digits":
            prepare(name, data)
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("images", total=None)
            report = look(name, data, lambda done, of: progress.update(task, completed=done, total=of))
    except TrialFailure as failure:
        typer.echo(failure.sentence, err=True)
        raise typer.Exit(1) from None
    tell(as_json, {**asdict(report), "root": str(report.root)}, *report_lines(report))
    raise typer.Exit(1 if report.broken else 0)


def report_lines(report: "Report") -> list[str]:
    """A report as text: images, objects by class, digest, and what is broken by name."""
    splits = list(report.images)
    lines = [f"{report.name} in {report.root}", ""]
    for split, count in report.images.items():
        whole = report.published.get(split)
        told = "" if whole in (None, count) else f" (the whole dataset has {whole:,})"
        lines.append(f"{split:<6}{count:>9,} images{told}, {sum(counts[split] for counts in report.objects.values()):,} objects")
    width = max(len(name) for name in report.objects)
    lines += ["", f"{'category':<{width}}" + "".join(f"{split:>11}" for split in splits)]
    lines += [f"{name:<{width}}" + "".join(f"{counts[split]:>11,}" for split in splits) for name, counts in report.objects.items()]
    lines += ["", f"digest {report.digest}"]
    if report.broken:
        lines += ["", f"{len(report.broken)} broken; a study stops at them, or trains without them with `on_broken: skip`:"]
        lines += [f"  {broken}" for broken in report.broken]
    return lines
