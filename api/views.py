"""What the `retort` command prints: studies, trials, plans, catalogue and the stack's parts as aligned tables."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from api.supervision import PartStatus
from api.watch import STYLES, Snapshot, header, span, trial_line


def status_table(parts: Sequence[PartStatus]) -> Table:
    """The stack: part, state, pid, address, health."""
    table = _table("part", "state", "pid", "up for", "address", "health")
    for part in parts:
        table.add_row(
            part.part.title,
            Text(part.state.lower(), style="green" if part.state == "RUNNING" else "red"),
            str(part.pid) if part.pid else "",
            span(datetime.now(UTC).timestamp() - part.since) if part.pid else "",
            part.part.address or "",
            Text(part.health or "ok", style="red" if part.health else "green"),
        )
    return table


def studies_table(studies: Sequence[dict[str, Any]]) -> Table:
    """Studies, newest first."""
    table = _table("id", "study", "state", "trials", "submitted", "took")
    for study in studies:
        counts = study["trials"]
        good = counts.get("finished", 0) + counts.get("cached", 0)
        table.add_row(
            str(study["id"]),
            Text(study["name"]),
            Text(study["state"], style=STYLES[study["state"]]),
            f"{good} of {sum(counts.values())}",
            datetime.fromisoformat(study["created"]).astimezone().strftime("%Y-%m-%d %H:%M"),
            span(_took(study)),
        )
    return table


def study_lines(study: dict[str, Any], trials: Sequence[dict[str, Any]]) -> list[RenderableType]:
    """One study: its head, then its trials with what came of them."""
    now = datetime.now(UTC)
    table = _table("trial", "state", "epochs", "AP", "time", "")
    for trial in trials:
        table.add_row(*trial_line(trial))
    return [*header(Snapshot(study, list(trials)), now), Text(), table]


def plan_lines(plan: dict[str, Any]) -> list[RenderableType]:
    """What would run, and how long it takes."""
    table = _table("trial", "role", "runs", "time")
    for trial in plan["trials"]:
        seconds = trial["seconds"]
        estimate = "" if trial["reused"] else "unknown" if seconds is None else f"about {span(seconds)}"
        table.add_row(Text(trial["title"]), trial["role"], Text("reused", style="green") if trial["reused"] else "trains", estimate)
    return [Text(plan["name"], style="bold"), table, Text(plan_summary(plan))]


def plan_summary(plan: dict[str, Any]) -> str:
    """The plan in a sentence."""
    told = f"{plan['to_run']} of {len(plan['trials'])} trials to train, {plan['reused']} reused"
    if plan["to_run"] == 0:
        return f"{told}: nothing to train, the table is there at once."
    hours = f"about {plan['device_seconds'] / 3600:.2f} {plan['device']}-hours"
    if plan["unknown"] == plan["to_run"]:
        return f"{told}; no time is known yet, nothing alike was trained here."
    return f"{told}; {hours}" + (f" and {plan['unknown']} trials of unknown time." if plan["unknown"] else ".")


def catalog_table(what: str, items: Sequence[dict[str, Any]]) -> Table:
    """The catalogue's entries of one kind."""
    if what == "studies":
        table = _table("id", "name", "what it shows")
        for item in items:
            table.add_row(item["id"], Text(item["name"]), Text(item["about"]))
    elif what == "distillers":
        table = _table("id", "method", "option", "default", "allowed", "meaning")
        for item in items:
            head = (item["id"], f"{item['title']} ({item['paper']})")
            for option in item["options"] or [{"name": "", "default": "", "allowed": "", "about": ""}]:
                table.add_row(*(Text(str(cell)) for cell in (*head, option["name"], option["default"], option["allowed"], option["about"])))
                head = ("", "")
            table.add_section()
    elif what == "detectors":
        table = _table("id", "name", "paper", "its head offers")
        for item in items:
            table.add_row(item["id"], item["title"], item["paper"], ", ".join(item["offers"]))
    elif what == "datasets":
        table = _table("id", "name", "classes", "train images", "val images")
        for item in items:
            table.add_row(item["id"], item["title"], *(f"{item[name]:,}" for name in ("classes", "train_images", "val_images")))
    else:
        table = _table("id", "name")
        for item in items:
            table.add_row(item["id"], item["title"])
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _took(study: dict[str, Any]) -> float | None:
    if not (study["started"] and study["finished"]):
        return None
    return (datetime.fromisoformat(study["finished"]) - datetime.fromisoformat(study["started"])).total_seconds()
