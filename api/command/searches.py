"""`retort best`, and `--search-only` of `retort submit`."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from api.command.output import Json, print_json
from studies.inert import one_line


class BestForm(StrEnum):
    """Forms of what a search found."""

    TEXT = "text"
    YAML = "yaml"
    JSON = "json"


def best(
    study: Annotated[int, typer.Argument(metavar="ID", min=1, help="number of a study (retort list)")],
    format: Annotated[
        BestForm, typer.Option(help="yaml: the study's spec with the best values filled in, ready to be submitted")
    ] = BestForm.TEXT,
    as_json: Json = False,
) -> None:
    """Print what a study's searches found, so far or for good."""
    from api.client import Client
    from api.pages.wording import as_yaml
    from studies.space import told

    found = Client().best(study)
    if as_json or format == BestForm.JSON:
        print_json(found)
        return
    if format == BestForm.YAML:
        typer.echo(as_yaml(found["spec"]), nl=False)
        return
    if not found["final"]:
        typer.echo(f"study {study} still searches; so far:")
    for each in found["items"]:
        typer.echo(one_line(f"{each['title']} [{told(each['values'])}]: {', '.join(map(_goal, each['goals']))}"))
    if not found["items"]:
        typer.echo("no combination has come to its end")
    typer.echo(f"as a study: retort best {study} --format yaml")


def _goal(goal: dict[str, Any]) -> str:
    interval = "" if goal["half_width"] is None else f" ± {goal['half_width']:.2f}"
    confirmed = "to be confirmed" if goal["confirmed"] is None else f"{goal['confirmed']:.4g}{interval} with fresh seeds"
    return f"{goal['metric']} {confirmed} ({goal['searched']:.4g} in the search)"


def only(document: Any, arm: str) -> Any:
    """A study of arms of which one alone is left, and is searched. Raises SpecError."""
    from studies.problems import Problem, SpecError

    arms = document.get("arms") if isinstance(document, dict) else None
    if not isinstance(arms, list) or not isinstance(document.get("search"), dict):
        raise SpecError([Problem("--search-only", "a study of arms with a `search`, which this is not")])
    mine = [each for each in arms if isinstance(each, dict) and each.get("id") == arm]
    if not mine:
        ids = ", ".join(str(each.get("id")) for each in arms if isinstance(each, dict))
        raise SpecError([Problem("--search-only", f"no arm {arm!r} in this study; its arms: {ids}")])
    return {**document, "arms": mine, "search": {**document["search"], "arms": [arm]}}
