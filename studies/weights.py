"""The names of trained weights that a spec may say: those of mmdet's zoo, and those that this machine's store has under other names.

The zoo's are a list beside this file, so that a misspelt one is told without mmdet; a test holds it against the installed library.
"""

import functools
import json
from pathlib import Path

from studies.home import retort_home
from studies.problems import nearest

ZOO_LIST = Path(__file__).with_name("zoo.txt")  # configs of mmdet's zoo that have a checkpoint, one a line


@functools.cache
def zoo_names() -> frozenset[str]:
    """The names of the zoo's weights, each "zoo/" and its config."""
    return frozenset(f"zoo/{config}" for config in ZOO_LIST.read_text().split())


def stored_names() -> frozenset[str] | None:
    """What the store of weights of this machine lists; None where it has none."""
    try:
        return frozenset(json.loads((retort_home() / "weights" / "manifest.json").read_text()))
    except FileNotFoundError:
        return None


def wrong_weights(name: str, taken: bool, whole: bool = True) -> str | None:
    """One sentence where no weights have this name, else None.

    taken: the study takes them from the store, so that a name of one's own must be there already. whole: they must be of a detector.
    """
    if name.startswith("imagenet/"):
        told = f"{name!r} are weights of a backbone alone, to start from (`init`); here a whole detector is meant: "
        return f"{told}zoo/CONFIG of mmdet's zoo, or your own" if whole else None
    if name in zoo_names():
        return None
    if name.startswith("zoo/"):
        return f"mmdet's zoo has no config {name.removeprefix('zoo/')!r} with a checkpoint" + _meant(name, zoo_names())
    stored = stored_names() if taken else None
    if stored is None or name in stored:
        return None
    others = zoo_names() | {each for each in stored if not each.startswith("imagenet/")}
    return f"the store of weights has no {name!r}; for a file of yours: retort weights import {name} FILE" + _meant(name, others)


def _meant(name: str, known: frozenset[str]) -> str:
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near else ""
