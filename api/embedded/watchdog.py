"""Watches what supervisord cannot: parts that live and no longer answer, processes that stand still, and supervisord itself.

Two of them run, `python -m api.embedded.watchdog`, each a part of the stack like any other, so that each is watched by the other; only
one acts at a time, and none while `retort up` or `retort down` is at work.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Hashable
from pathlib import Path

import psutil

from api.embedded import supervisord
from api.embedded.health import answers, readiness
from api.embedded.locks import home_lock
from api.embedded.processes import kill, processes_of, stands_still
from api.embedded.stack import Part, Stack, StackError, load_stack
from studies.home import retort_home

LOOK_SECONDS = 5.0
STILL_SECONDS = float(os.environ.get("RETORT_STILL_SECONDS", "60"))  # how long a process may be stopped (SIGSTOP), or a part not answer
KILL_SECONDS = 5.0  # for a signal that ends a process to take effect: on a busy machine that is not at once
START_SECONDS = 120.0  # a part that has just been started imports, and answers nobody


class Watchdog:
    """Looks at a stack, round after round. `clock`: seconds, monotonic."""

    def __init__(self, stack: Stack, clock: Callable[[], float] = time.monotonic) -> None:
        self.stack, self._clock = stack, clock
        self._since: dict[Hashable, float] = {}  # what is wrong -> since when it has been seen in every round

    def look(self) -> list[str]:
        """One round; what was done about what it found, in words."""
        done = self._stopped_processes()
        supervisor = supervisord.process(self.stack)
        if supervisor and supervisord.answers(self.stack):
            return done + self._silent_parts()
        if supervisor:
            if not self._lasts("supervisor", True):
                return done
            done.append("the supervisor did not answer; killed it")
            if not kill([supervisor], KILL_SECONDS):
                return done
        supervisord.launch(self.stack)  # each part ends what is left of its earlier life
        return [*done, "the supervisor was gone; started it again"]

    def _stopped_processes(self) -> list[str]:
        """Nobody stops a process of a stack and means well: one that stands still is killed, and its part deals with its death."""
        stopped = {}
        for process in processes_of(self.stack.id, self.stack.run):
            if stands_still(process):
                with contextlib.suppress(psutil.Error):
                    stopped[process.pid, process.create_time()] = process
        told = []
        for key, process in stopped.items():
            if self._lasts(("stopped", key), True):
                with contextlib.suppress(psutil.Error):
                    told.append(f"process {process.pid} ({' '.join(process.cmdline())[:80]}) stood still; killed it")
                    kill([process], KILL_SECONDS)
        for gone in [key for key in self._since if isinstance(key, tuple) and key[0] == "stopped" and key[1] not in stopped]:
            del self._since[gone]
        return told

    def _silent_parts(self) -> list[str]:
        self._lasts("supervisor", False)
        ready = readiness(self.stack)
        infos = supervisord.process_infos(self.stack)
        told = []
        for part in self.stack.parts():
            info = infos.get(part.name, {})
            settled = info.get("statename") == "RUNNING" and info["now"] - info["start"] > START_SECONDS
            if self._lasts(part.name, settled and not answers(self.stack, part, ready)):
                self._restart(part)
                told.append(f"{part.title} did not answer; started it again")
        return told

    def _restart(self, part: Part) -> None:
        with contextlib.suppress(*supervisord.NO_ANSWER):
            calls = supervisord.rpc(self.stack, supervisord.WAITING_SECONDS)
            calls.stopProcess(part.name, True)
            calls.startProcess(part.name, False)

    def _lasts(self, what: Hashable, wrong: bool) -> bool:
        """Whether it has been wrong in every round for STILL_SECONDS."""
        if not wrong:
            self._since.pop(what, None)
            return False
        since = self._since.setdefault(what, self._clock())
        if self._clock() - since < STILL_SECONDS:
            return False
        del self._since[what]
        return True


def main() -> None:
    home = retort_home()
    stack = load_stack(home)
    if stack is None:
        sys.exit(f"no stack is up in {home}")
    watch(stack)


def watch(stack: Stack) -> None:
    """For ever: a round every LOOK_SECONDS."""
    watchdog = Watchdog(stack)
    while True:
        time.sleep(LOOK_SECONDS)
        with home_lock(Path(stack.home), wait=False) as mine:
            if not mine:
                continue
            try:
                done = watchdog.look()
            except (StackError, OSError, psutil.Error) as error:
                done = [f"trouble: {error}"]
        # Not to stdout: that is a pipe to the supervisor, which may be the one that is gone.
        with (stack.logs / "watchdog.log").open("a") as log:
            log.writelines(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {each}\n" for each in done)


if __name__ == "__main__":
    main()
