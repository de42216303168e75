"""Becomes one part of the stack, once nothing of its earlier life is left: `python -m api.embedded.part NAME COMMAND...`.

A part whose leader was killed leaves its children behind, which hold its port and its files; they end before the command takes this
process over. A part that ends again and again is started at growing intervals, and the file of its starts tells `retort status`.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from api.embedded.processes import kill, processes_of_part

RECENT_SECONDS = 600.0  # starts that count as "again and again"
FREE_STARTS = 3  # within RECENT_SECONDS, before the pauses
LONGEST_PAUSE = 30.0
END_SECONDS = 20.0
MOST_STARTS = 1000  # remembered


@dataclass(frozen=True)
class Start:
    """A start of a part: when (seconds since 1970), and the process that became it, which led its group."""

    time: float
    pid: int


def starts_file(home: Path, part: str) -> Path:
    """The starts of a part of the running stack, a line each."""
    return home / "run" / f"{part}.starts"


def starts(file: Path) -> list[Start]:
    """All starts since `retort up` (the last ones of very many), oldest first."""
    try:
        return [Start(float(when), int(pid)) for when, pid in (line.split() for line in file.read_text().splitlines())]
    except (FileNotFoundError, ValueError):
        return []


def recent(known: list[Start], now: float) -> list[Start]:
    """Those within the last RECENT_SECONDS."""
    return [each for each in known if 0 <= now - each.time <= RECENT_SECONDS]


def pause(known: list[Start], now: float) -> float:
    """Seconds to wait before the next start: none for the first ones, then 2, 4, 8, ... up to LONGEST_PAUSE."""
    more = len(recent(known, now)) + 1 - FREE_STARTS
    return min(2.0**more, LONGEST_PAUSE) if more > 0 else 0.0


def end_earlier_lives(stack_id: str, run: Path, part: str, groups: set[int]) -> None:
    """Kills what earlier lives of the part have left. Raises SystemExit naming what does not end."""
    deadline = time.monotonic() + END_SECONDS
    while left := processes_of_part(stack_id, run, part, groups):
        if time.monotonic() > deadline:
            sys.exit(f"{part}: these processes of its earlier life do not end: {', '.join(str(process.pid) for process in left)}")
        print(f"{part}: ending {len(left)} processes that its earlier life has left behind", flush=True)
        kill(left, seconds=1)


def main() -> None:
    name, *command = sys.argv[1:]
    home = Path(os.environ["RETORT_HOME"])
    file = starts_file(home, name)
    known = starts(file)[-MOST_STARTS:]
    end_earlier_lives(os.environ["RETORT_STACK"], home / "run", name, {each.pid for each in known} - {os.getpid()})
    now = time.time()
    file.write_text("".join(f"{each.time:.3f} {each.pid}\n" for each in [*known, Start(now, os.getpid())]))
    time.sleep(pause(known, now))
    os.environ["RETORT_PART"] = name
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
