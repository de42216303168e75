"""How much hangs on a trial: the longest chain of trials that begins with it. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence


def chains(seconds: Mapping[str, float], needs: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Seconds of the longest chain that begins with each trial, itself counted. needs: of each trial the names of those that it waits for,
    which stand before it in `seconds`."""
    behind: dict[str, float] = defaultdict(float)
    for name in reversed(list(seconds)):
        for needed in needs[name]:
            behind[needed] = max(behind[needed], seconds[name] + behind[name])
    return {name: took + behind[name] for name, took in seconds.items()}
