"""The demo's trials beside those of an older version of the code, in pairs on one machine.

    git worktree add /tmp/older fcca9b9
    python benchmarks/older.py /tmp/older [--rounds 3] [--steps 60] [--arms student,fitnet,pdf-distil,ld]

Trains each trial of `examples/digits.yaml` for two epochs of some steps of eight images, in the older checkout and in this one by turns,
each time in a process of its own and with a seed of its own. Told are CPU seconds of the second epoch: of a step, loading and optimizer
included, and of an evaluated image. Recipes and scenes of the two versions may differ, and so what is learnt: the step is compared.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent.parent
TRIAL = """
import json, logging, sys, time
import torch, yaml
from pathlib import Path
from studies.spec import StudySpec
from workers.local import run_locally

arm, seed, steps, home = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
torch.set_num_threads(1)
logging.getLogger("mmengine").setLevel(logging.ERROR)
study = yaml.safe_load(Path("examples/digits.yaml").read_text())
schedule = {"epochs": 2, "batch_size": 8, "max_iterations": steps}
study |= {"seeds": [seed], "schedule": schedule, "teacher": study["teacher"] | {"schedule": schedule}}
ends, step = [], torch.optim.AdamW.step

def timed(self, *given, **named):
    done = step(self, *given, **named)
    ends.append(time.process_time())
    return done

def told(trial, epoch):
    if trial.role != "teacher" and epoch.epoch == 2:
        (val,) = (home / "data" / "digits").rglob("*val*.json")
        images = len(json.loads(val.read_text())["images"])
        took = time.process_time() - ends[-1]
        with open(sys.argv[5], "w") as file:
            # Of the second epoch, in which images may be at hand; a backbone may have been pretrained before.
            json.dump({"step": (ends[-1] - ends[5 - steps]) / (steps - 6), "evaluation": took / images}, file)

torch.optim.AdamW.step = timed
run_locally(StudySpec.model_validate(study), arm, seed, home, told)
"""


@dataclass(frozen=True)
class Took:
    """CPU seconds of a step, and of an evaluated image."""

    step: float
    evaluation: float


def trial(checkout: Path, home: Path, arm: str, seed: int, steps: int) -> Took:
    """Trains a trial of the checkout's demo. Its teacher and data are kept in `home`."""
    with tempfile.NamedTemporaryFile() as told:
        environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", TRIAL, arm, str(seed), str(steps), str(home), told.name]
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{checkout}, {arm}: {done.stderr[-2000:]}")
        return Took(**json.loads(Path(told.name).read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("older", type=Path, help="a checkout of the older version")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--arms", default="student,fitnet,pdf-distil,ld")
    given = parser.parse_args()
    print("| trial | a step, older | now | ratio of each round | an image evaluated, older | now | ratio |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="retort-older-") as folder:
        for arm in given.arms.split(","):
            pairs: list[tuple[Took, Took]] = []
            for seed in range(given.rounds):
                old = trial(given.older.resolve(), Path(folder, "older"), arm, seed, given.steps)
                new = trial(HERE, Path(folder, "now"), arm, seed, given.steps)
                pairs.append((old, new))
                print(arm, seed, old, new, file=sys.stderr, flush=True)
            steps, looks = ([[1000 * getattr(took, name) for took in pair] for pair in pairs] for name in ("step", "evaluation"))
            of_steps, of_looks = ([statistics.median(column) for column in zip(*rows, strict=True)] for rows in (steps, looks))
            each = ", ".join(f"{new / old:.2f}" for old, new in steps)
            shown = f"{of_steps[0]:.0f} ms | {of_steps[1]:.0f} ms | {each} | {of_looks[0]:.1f} ms | {of_looks[1]:.1f} ms"
            print(f"| {arm} | {shown} | {of_looks[1] / of_looks[0]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
