"""How every row of the papers' tables trains here, beside what its paper and its released configs say; differences are marked.

    python -m benchmarks.paper_recipes > docs/results/paper-recipes.md

Plain data: nothing is built or run. The papers' facts are in `paper_setups.yaml`, those of the model zoo in its installed configs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from studies.catalog import ZOO, family_of, start_of
from studies.expand import PlannedTrial
from studies.inputs import input_sides
from studies.recipes import RECIPES
from studies.submission import Submission, read_submission
from studies.tables.shipped import numbered_tables

FIELDS = ("start", "size", "images", "epochs", "passes", "batch", "lr", "decay", "warm_up", "weight_decay", "clip")
TITLES = ("starts from", "size", "images", "epochs", "passes", "batch", "lr", "lr falls", "warm-up", "decay", "clip")
ABOUT = """# How the papers' tables train

Every row of the 17 tables at paper scale: the training that it resolves to, beside what its paper or the released configs say.

Command: `python -m benchmarks.paper_recipes > docs/results/paper-recipes.md`

A value that nobody states stands as it is. `ok`: the paper says the same; `(code)`, `(copies)` or `(zoo)`: the released configs, public
copies where there are none, or the model zoo's config of this network do. **Bold** is a difference, with what they say. Starts:
`imagenet/...` of the backbone, `zoo/...` taken as it is and not trained. Images: as `retort catalog recipes` names them. `lr` at the batch;
clip 0: none; warm-up in steps.
"""


@dataclass(frozen=True)
class Said:
    """A value that somebody states, and who: "paper", "code", "copies" or "zoo"."""

    value: Any
    by: str


def resolved(trial: PlannedTrial, dataset: str) -> dict[str, Any]:
    """A trial's training in the fields of the page."""
    if trial.weights:
        return {"start": trial.weights}
    network, schedule = trial.network, trial.schedule
    recipe = RECIPES[str(schedule.recipe)]
    assert schedule.epochs
    short, long = recipe.largest or input_sides(network, dataset)
    decay = "cosine" if recipe.decay == "cosine" else ", ".join(map(str, recipe.milestones(schedule.epochs)))
    return {
        "start": trial.init or start_of(network.detector, network.backbone, network.form) or "drawn",
        "size": f"{short}x{long}",
        "images": recipe.images,
        "epochs": schedule.epochs,
        "passes": recipe.passes,
        "batch": schedule.batch_size,
        "lr": round(schedule.scaled_lr, 6),
        "decay": decay,
        "warm_up": schedule.warm_up,
        "weight_decay": schedule.weight_decay,
        "clip": schedule.clip,
    }


def stated(paper: str, trial: PlannedTrial, dataset: str) -> dict[str, Said]:
    """What is said of a trial's training, by field."""
    about = {"detector": trial.network.detector, "form": trial.network.form, "role": trial.role, "dataset": dataset}
    found: dict[str, Said] = {}
    for fact in _setups()[paper]["facts"]:
        if any(about[name] != value for name, value in fact.get("when", {}).items()):
            continue
        values = {name: value for name, value in fact.items() if name in FIELDS}
        if fact["from"] == "zoo":
            values |= of_zoo(trial)
        for name, value in values.items():
            said = value.get(trial.schedule.recipe) if isinstance(value, dict) else value
            if said is not None:
                found[name] = Said(said, fact["from"])
    return found


def of_zoo(trial: PlannedTrial) -> dict[str, Any]:
    """What the zoo's config of a network says, from the file that mmdet installs; nothing where the zoo has no such network."""
    model = ZOO.get((trial.network.detector, trial.network.backbone))
    if model is None or trial.network.form:
        return {}
    from workers.detectors import zoo_config

    config = zoo_config(model.config)
    decay = config.param_scheduler[-1]
    warm_up = next((each.end for each in config.param_scheduler if each.type in ("LinearLR", "ConstantLR")), 0)
    wrapper = config.optim_wrapper
    passes = config.train_dataloader.dataset.get("times", 1)
    return {
        "epochs": config.train_cfg.max_epochs,
        "passes": passes,
        "batch": 8 * config.train_dataloader.batch_size,
        "lr": wrapper.optimizer.lr,
        "decay": ", ".join(map(str, decay.milestones)),
        "warm_up": warm_up,
        "weight_decay": wrapper.optimizer.weight_decay,
        "clip": (wrapper.get("clip_grad") or {}).get("max_norm", 0),
    }


def agrees(name: str, ours: Any, theirs: Any) -> bool:
    """Whether a value is what was said; of starts a kind is said, not a file."""
    if name == "start":
        kind = "Caffe" if str(ours).endswith(("_caffe", "_msra")) else "ImageNet"
        return str(ours).startswith("imagenet/") and (theirs == kind or theirs == "ImageNet")
    return str(ours) == str(theirs) or (
        isinstance(ours, (int, float)) and isinstance(theirs, (int, float)) and float(ours) == float(theirs)
    )


def cell(name: str, ours: Any, said: Said | None) -> str:
    """A field of a row."""
    told = f"{ours:g}" if isinstance(ours, float) else str(ours)
    if said is None:
        return told
    if agrees(name, ours, said.value):
        return f"{told} ok" if said.by == "paper" else f"{told} ({said.by})"
    return f"**{told}**; {said.by}: {said.value}"


def rows(table: str) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Said]]]:
    """(row's title, network, its training, what is said of it) of a table, one for each row that the paper prints."""
    submission: Submission = read_submission({"table": table, "scale": "paper"})
    trials = {trial.id: trial for trial in submission.expansion.trials}
    paper, dataset = table.split("/")[0], submission.spec.dataset
    for row in submission.presentation.rows:
        if row.difference or not row.trials:
            continue
        trial = trials[row.trials[0]]
        network = trial.network
        title = " ".join(filter(None, (family_of(network.detector).title, network.backbone, f"({network.form})" if network.form else "")))
        methods = " + ".join(use.id for use in trial.distillers)
        told = " / ".join(filter(None, (row.group, row.title)))
        yield told, f"{title}{', ' + methods if methods else ''}", resolved(trial, dataset), stated(paper, trial, dataset)


def page() -> str:
    """The whole page."""
    lines, differing = [ABOUT], dict[str, int]()
    for table in numbered_tables():
        code = _setups()[table.split("/")[0]]["code"]
        lines += [f"## {table}\n", f"Released code: {code}.\n"]
        lines += ["| row | network | " + " | ".join(TITLES) + " |", "|---" * (len(TITLES) + 2) + "|"]
        differing[table] = 0
        for title, network, ours, said in rows(table):
            if len(ours) == 1:
                cells = [f"{ours['start']}, taken", *[""] * (len(FIELDS) - 1)]
            else:
                cells = [cell(name, ours[name], said.get(name)) for name in FIELDS]
            differing[table] += any("**" in each for each in cells)
            lines.append(f"| {title} | {network} | " + " | ".join(cells) + " |")
        lines.append("")
    listed = "; ".join(f"{table} {count}" for table, count in differing.items() if count)
    return "\n".join([*lines[:1], f"Rows with a difference: {listed or 'none'}.\n", *lines[1:], *_beside()])


def _beside() -> list[str]:
    """Facts that no field has."""
    return [
        "## Beside the fields\n",
        "* PDF-Distil's released training has what its paper does not say: a moving average of the weights (0.9998), mixed precision, and "
        "an input of 256, 320 or 384 pixels drawn for every epoch. None of it is here.",
        "* Zhang and Ma name no schedule. Their baselines are the model zoo's at 2x (Cascade R-CNN 20 epochs), so its configs stand for "
        "them; the clip of 35 is in public copies of their code, and is not taken over.",
        "* The zoo has RetinaNet R18 and Dynamic R-CNN at 1x alone; they train 2x here, as the rows around them.",
        "* A detector of twice the channels has no pretrained weights, so the teachers of YOLOv3 and SSD are drawn.",
        "* The zoo's networks for Cityscapes start from its COCO detectors.",
    ]


@functools.cache
def _setups() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("paper_setups.yaml").read_text())
    return found


if __name__ == "__main__":
    print(page())
