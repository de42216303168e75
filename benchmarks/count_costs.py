"""Counts what one image costs every network of the shipped tables, for the estimates of `retort plan`; writes studies/costs.yaml.

    python -m benchmarks.count_costs          # a minute: shapes alone, no weight is allocated

Multiply-adds are those of `workers.evaluation.costs`. Those on RoIs (1,000 proposals, masks of 100, as at test time) are apart: they do not
grow with the image.
"""

import argparse
import logging
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch

from studies.costs import FILE, reference_size
from studies.spec import Network
from studies.submission import read_submission
from studies.tables.shipped import table_ids
from workers.evaluation.costs import CLASSES, Counter, multiply_adds, on_paper, parameter_counts, run_heads

HEAD = """\
# Multiply-adds (in 1e9) and parameters (in 1e6) of the shipped tables' networks at paper scale, written by benchmarks/count_costs.py.
# image: of one image of `size` (height, width), backbone to dense heads; grows with its pixels. rois: of the heads on RoIs.
"""


def networks_of_tables() -> list[Network]:
    """Every network that a shipped table trains or evaluates at paper scale, sorted."""
    trials = [trial for table in table_ids() for trial in read_submission({"table": table, "scale": "paper"}).expansion.trials]
    found = {(trial.network.detector, trial.network.backbone, trial.network.form or ""): trial.network for trial in trials}
    return [found[parts] for parts in sorted(found)]


def counted(network: Network) -> dict[str, Any]:
    """The entry of a network."""
    size = reference_size(network)
    model = on_paper(network, CLASSES["paper"])
    total = multiply_adds(model, size)["total"]
    rois = _on_rois(model, size)
    return {
        **network.model_dump(exclude_none=True),
        "size": list(size),
        "image": round((total - rois) / 1e9, 3),
        "rois": round(rois / 1e9, 3),
        "parameters": round(parameter_counts(model)["parameters"] / 1e6, 3),
    }


def _on_rois(model: Any, size: tuple[int, int]) -> int:
    if not hasattr(model, "roi_head"):
        return 0
    with torch.no_grad(), Counter(model.roi_head) as counter:
        list(run_heads(model, model.neck(model.backbone(torch.empty(1, 3, *size, device="meta")))))
    return counter.total


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FILE)
    out = parser.parse_args().out
    logging.disable(logging.INFO)
    lines = []
    for network in networks_of_tables():
        with redirect_stdout(sys.stderr):  # mmdet prints while it is imported
            entry = counted(network)
        lines.append("- {" + ", ".join(f"{name}: {value}" for name, value in entry.items()) + "}")
        print(lines[-1])
    out.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
