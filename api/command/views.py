"""What the `retort` command prints: studies, trials, plans, catalogue and the stack's parts as aligned tables."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from api.command.garbage import human
from api.command.watch import STYLES, Snapshot, header, span
from api.embedded.health import PartStatus
from studies.inert import one_line
from studies.measures import KINDS

if TYPE_CHECKING:
    from orchestrator.garbage.usage import Usage

LONGEST = 34  # characters of a column that is not broken
USUAL_GPU = "A100"  # whose hours stand where there is room for one number


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


def status_data(parts: Sequence[PartStatus], advised: Sequence[str], used: "Usage", logs: Path) -> dict[str, Any]:
    """The stack, for programs: `health` of a part is empty where all is well, `advice` says what is wrong, `disk` is in bytes."""
    told = [
        {
            "part": part.part.name,
            "state": part.state.lower(),
            "pid": part.pid or None,
            "since": part.since or None,
            "address": part.part.address,
            "health": part.health,
        }
        for part in parts
    ]
    disk = {"parts": used.parts, "total": used.total, "free": used.free}
    return {"parts": told, "advice": list(advised), "disk": disk, "logs": str(logs)}


def usage_line(used: "Usage") -> str:
    """What takes how much of the disk."""
    parts = ", ".join(f"{one_line(name)} {human(size)}" for name, size in used.parts.items() if size >= 0.01 * used.total)
    return f"disk: {human(used.total)} ({parts}), {human(used.free)} free; what can go: retort gc"


def studies_table(studies: Sequence[dict[str, Any]]) -> Table:
    """Studies, newest first."""
    table = _table("id", "study", "owner", "state", "trials", "submitted", "took", wraps="study")
    for study in studies:
        counts = study["trials"]
        good = sum(counts.get(state, 0) for state in ("finished", "cached", "stopped"))
        table.add_row(
            str(study["id"]),
            Text(one_line(study["name"])),
            Text(one_line(study["owner"] or "")),
            Text(study["state"], style=STYLES[study["state"]]),
            f"{good} of {sum(counts.values())}",
            datetime.fromisoformat(study["created"]).astimezone().strftime("%Y-%m-%d %H:%M"),
            span(_took(study)),
        )
    return table


CELLS, CLAIMS = ("reproduced", "off", "not_comparable", "missing"), ("holds", "contradicted", "undecided", "missing")


def tables_lines(tables: Sequence[dict[str, Any]]) -> list[RenderableType]:
    """The papers' tables: published numbers by verdict, signs of gains by what the seeds say; a paper's sums above its tables."""
    shown = _table("table", "scale", "study", "seeds", "numbers", "gains", wraps="numbers")
    for paper in dict.fromkeys(each["paper"] for each in tables):
        of_paper = [each for each in tables if each["paper"] == paper]
        for scale in dict.fromkeys(each["scale"] for each in of_paper if each["study"]):
            run = [each for each in of_paper if each["scale"] == scale]
            sums = [_told([each[kind] for each in run], words) for kind, words in (("cells", CELLS), ("gains", CLAIMS))]
            shown.add_row(Text(paper), Text(scale), "", "", *map(Text, sums), style="bold")
        for each in of_paper:
            told = [_told([each[kind]], words) if each[kind] else "" for kind, words in (("cells", CELLS), ("gains", CLAIMS))]
            head = [
                f"  {one_line(each['table'])}",
                one_line(each["scale"] or "not run"),
                str(each["study"] or ""),
                str(each["seeds"] or ""),
            ]
            shown.add_row(*map(Text, (*head, *told)))
    legend = "numbers: reproduced / off / not comparable / missing; gains: hold / contradicted / undecided / missing"
    return [shown, Text(), Text(legend, style="dim")]


def _told(counts: Sequence[dict[str, int]], words: Sequence[str]) -> str:
    """Sums in the order of `words`: "12 / 3 / 0 / 1"."""
    return " / ".join(str(sum(each[word] for each in counts)) for word in words)


def study_lines(study: dict[str, Any], trials: Sequence[dict[str, Any]]) -> list[RenderableType]:
    """One study: its head, then its trials with what came of them."""
    table = _table("trial", "state", "epochs", "AP", "time", wraps="trial")
    for trial in trials:
        metrics = trial["metrics"] or trial["latest"] or {}
        table.add_row(
            Text(one_line(trial["title"])),
            Text(trial["state"], style=STYLES[trial["state"]]),
            f"{trial['epoch']}/{trial['epochs']}" if trial["epochs"] else "",
            f"{metrics['AP']:.1f}" if "AP" in metrics else "",
            span(trial["seconds"]),
        )
    reasons = [Text(one_line(f"{trial['title']} failed: {trial['reason']}"), style="red") for trial in trials if trial["state"] == "failed"]
    return [*header(Snapshot(study, list(trials)), datetime.now(UTC)), Text(), table, *reasons]


def plan_lines(plan: dict[str, Any]) -> list[RenderableType]:
    """What would run, and how long it takes."""
    table = _table("trial", "role", "runs", "time", wraps="trial")
    for trial in plan["trials"]:
        runs = Text("reused", style="green") if trial["reused"] else "evaluates" if trial["evaluates"] else "trains"
        table.add_row(Text(one_line(trial["title"])), trial["role"], runs, _time(trial))
    for row in _measurements(plan["measurements"]):
        table.add_row(*row)
    warnings = [Text(one_line(f"Note: {warning}."), style="yellow") for warning in plan["warnings"]]
    hours = _gpu_hours(plan, plan["efficiency"])
    return [Text(one_line(plan["name"]), style="bold"), table, Text(plan_summary(plan)), *hours, *warnings]


def _measurements(planned: Sequence[dict[str, Any]]) -> Iterable[Sequence[str]]:
    """A line for the measurements of each kind."""
    for kind in dict.fromkeys(each["kind"] for each in planned):
        of_kind = [each for each in planned if each["kind"] == kind]
        to_make = [each for each in of_kind if not each["reused"]]
        runs = "reused" if not to_make else "measures" if len(to_make) == len(of_kind) else f"{len(to_make)} measure"
        yield f"{len(of_kind)} x {KINDS[kind].short}", "measurement", runs, _time_of_all(to_make)


def plan_summary(plan: dict[str, Any]) -> str:
    """The plan in a sentence."""
    told = f"{plan['to_train']} of {len(plan['trials'])} trials to train, "
    told += f"{plan['to_evaluate']} to evaluate, " * bool(plan["to_evaluate"]) + f"{plan['reused']} reused"
    told += f", then {plan['to_measure']} measurements" if plan["to_measure"] else ""
    to_run = plan["to_run"] + plan["to_measure"]
    if to_run == 0:
        return f"{told}: nothing to train, the table is there at once."
    if plan["unknown"] == to_run:
        return f"{told}; no time is known yet, nothing alike was trained here."
    on_usual = plan["gpu_hours"].get(USUAL_GPU)  # 0 where all was measured on another kind that is not listed
    hours = (
        f"about {_hours(on_usual)} {USUAL_GPU}-hours" if on_usual else f"about {plan['device_seconds'] / 3600:.2f} {plan['device']}-hours"
    )
    return f"{told}; {hours}" + (f" and {plan['unknown']} {_jobs(plan)} of unknown time." if plan["unknown"] else ".")


def _jobs(sums: dict[str, Any]) -> str:
    """What is counted together."""
    return "trials and measurements" if sums["to_measure"] else "trials"


def plans_lines(plans: dict[str, Any]) -> list[RenderableType]:
    """What several studies would run: a line each, what they share once, and the sum."""
    total = plans["total"]
    gpus = [gpu for gpu in (USUAL_GPU,) if gpu in total["gpu_hours"]]
    cpus = ["cpu"] if any(study["device"] == "cpu" for study in plans["studies"]) else []
    measures = ["to measure"] if total["to_measure"] else []
    hours_of = (f"{name} hours" for name in (*gpus, *cpus))
    table = _table("study", "trials", "shared", "done", "to train", "to test", *measures, *hours_of, keeps="study")
    for line in (*plans["studies"], total):
        name = Text("together", style="bold") if line is total else Text(one_line(line["table"] or line["name"]))
        counts = [line["trials"], line.get("shared", ""), line["reused"], line["to_train"], line["to_evaluate"]]
        counts += [line["to_measure"]] if measures else []
        hours = [line["gpu_hours"].get(gpu) for gpu in gpus] + [
            line["device_seconds"] / 3600 if line.get("device") == "cpu" else None for _ in cpus
        ]
        more = " + ?" if line["unknown"] else ""  # and what is not known
        table.add_row(name, *map(str, counts), *("" if each is None else _hours(each) + more for each in hours))
    made = ["trainings", "evaluations", *(["measurements"] if measures else [])]
    asked = [f"{total[f'to_{verb}']} {what}" for verb, what in zip(("train", "evaluate", "measure"), made, strict=False)]
    told = f"{', '.join(asked[:-1])} and {asked[-1]} to run, {total['reused']} trials are finished."
    unknown = [Text(f"?: {total['unknown']} {_jobs(total)} of unknown time, nothing alike was run here.")] if total["unknown"] else []
    return [table, Text(told), *unknown, *_gpu_hours(total, plans["efficiency"])]


def _time(trial: dict[str, Any]) -> str:
    """How long a trial takes: its time on the devices it asks for where one like it was measured, else device-hours."""
    return "" if trial["reused"] else _time_of_all([trial])


def _time_of_all(jobs: Sequence[dict[str, Any]]) -> str:
    """How long jobs take one after the other, as far as all are measured, else all are estimated."""
    if not jobs:
        return ""
    seconds, hours = [job["seconds"] for job in jobs], [job["gpu_hours"] for job in jobs]
    if None not in seconds:
        return f"about {span(sum(seconds))}"
    return f"about {_hours(sum(each[USUAL_GPU] for each in hours))} {USUAL_GPU}-hours" if all(hours) else "unknown"


def _gpu_hours(sums: dict[str, Any], efficiency: str) -> list[RenderableType]:
    """Device-hours by kind of GPU, and where they are from."""
    if not any(sums["gpu_hours"].values()):
        return []
    hours = ", ".join(f"{gpu} {_hours(hours)}" for gpu, hours in sums["gpu_hours"].items())
    return [Text(f"Device-hours: {hours}."), _basis(sums, efficiency)]


def _basis(sums: dict[str, Any], efficiency: str) -> Text:
    """How many times are measured and how many estimated, and by what."""
    jobs = _jobs(sums)
    parts = [f"{sums['measured']} {jobs} by the measured time of others like them"] if sums["measured"] else []
    parts += [f"{sums['estimated']} {jobs} estimated: {efficiency}"] if sums["estimated"] else []
    parts += [f"{sums['unknown']} {jobs} of unknown time"] if sums["unknown"] else []
    return Text("; ".join(parts) + ".", style="dim")


def _hours(hours: float) -> str:
    """Hours to two figures or whole ones: an estimate says no more."""
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def catalog_lines(what: str, items: Sequence[dict[str, Any]]) -> list[RenderableType]:
    """The catalogue's entries of one kind: a table, or a paragraph each where there is much to say."""
    if what == "distillers":
        return [line for item in items for line in _distiller(item)]
    if what == "detectors":
        return [line for item in items for line in _detector(item)]
    if what == "datasets":
        table = _table("id", "name", "classes", "train images", "val images", "masks")
        for item in items:
            counts = (item[name] for name in ("classes", "train_images", "val_images"))
            masks = {True: "yes", False: "no", None: "?"}[item["masks"]]
            table.add_row(item["id"], item["title"], *("?" if count is None else f"{count:,}" for count in counts), masks)
        return [table]
    columns = {
        "studies": {"name": "name", "about": "what it shows"},
        "backbones": {"title": "name"},
        "recipes": {"title": "name", "decay": "learning rate", "images": "images"},
    }[what]
    table = _table("id", *columns.values())
    for item in items:
        cells = [item[name] for name in columns]
        table.add_row(item["id"], *(Text(", ".join(cell) if isinstance(cell, list) else cell) for cell in cells))
    return [table]


def _detector(item: dict[str, Any]) -> list[RenderableType]:
    """A family: its title and paper, what it offers, the methods that fit it, and its models in the zoo."""
    lines: list[RenderableType] = [Text(item["id"], style="bold").append(f"  {item['title']} ({item['paper']})", style="default")]
    for name, what in (("offers", "its head offers"), ("distillers", "methods"), ("forms", "forms"), ("backbones", "backbones")):
        if item[name]:
            lines.append(Text(f"{what}: ", style="dim").append(", ".join(item[name]), style="default"))
    zoo = Table.grid(padding=(0, 2), pad_edge=True)
    for model in item["zoo"]:
        masks = f", masks {model['mask_ap']:.1f}" if model["mask_ap"] else ""
        zoo.add_row(model["backbone"], f"{model['parameters']:.2f} M", f"AP {model['ap']:.1f}{masks}", Text(model["config"], style="cyan"))
    return [*lines, zoo, Text()]


def _distiller(item: dict[str, Any]) -> list[RenderableType]:
    """A method: its title and paper, what it needs, then an option a line with its default, values and meaning."""
    head = Text(item["id"], style="bold").append(f"  {item['title']} ({item['paper']})", style="default")
    lines: list[RenderableType] = [head]
    if item["same_detector"]:
        lines.append(Text(f"teacher and student of one detector: {item['same_detector']}", style="dim"))
    options = Table.grid(padding=(0, 2), pad_edge=True)
    for option in item["options"]:
        options.add_row(f"{option['name']} = {option['default']}", Text(option["allowed"], style="cyan"), Text(option["about"]))
    return [*lines, options, Text()]


def _table(*columns: str, wraps: str | None = None, keeps: str | None = None) -> Table:
    """wraps: the one column that gives way where the terminal is narrow; keeps: the one that does not, and is cut when it is long;
    without either, all of them do."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", collapse_padding=keeps is not None)
    for name in columns:
        if name == keeps:
            table.add_column(name, overflow="ellipsis", no_wrap=True, max_width=LONGEST)
        else:
            table.add_column(name, overflow="fold", no_wrap=wraps not in (None, name))
    return table


def _took(study: dict[str, Any]) -> float | None:
    if not (study["started"] and study["finished"]):
        return None
    return (datetime.fromisoformat(study["finished"]) - datetime.fromisoformat(study["started"])).total_seconds()
