"""Random SIGKILL and SIGSTOP over every process of a stack of small parts: `python -m tests.api.supervision_chaos --kills 100 --seed N`.

The supervisor and the watchdogs are the real ones. What must hold: after some hits the stack comes to have every part once, each answering
and none of its processes stopped; and nothing is left when it is ended. Of those that watch over the others (the supervisor and the two
watchdogs) one is hit at a time: with all of them gone or stopped, nobody is there who could mend anything.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))  # this file is also the program of the watchdogs

from api.embedded import supervisord
from api.embedded.health import status
from api.embedded.processes import processes_of, stands_still
from api.embedded.stack import Part, Stack, new_stack, stack_file
from api.embedded.supervision import end, start
from api.embedded.watchdog import watch

WEB_SERVER = """
import http.server, json, os, sys

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        ready = {"stack": os.environ["RETORT_STACK"], "database": "ok", "orchestrator": {"trouble": ""}}
        self.wfile.write(json.dumps(ready).encode())

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""
CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(6000)'])"
EXPECTED = {"supervisor": 1, "api": 1, "orchestrator": 2, "watchdog-1": 1, "watchdog-2": 1}  # processes of each part
GUARDIANS = {"supervisor", "watchdog-1", "watchdog-2"}
SETTLE_SECONDS = 300.0  # a part that was started again and again waits for up to 30 s


class WatchedStack(Stack):
    """A web server for the API, a part with a child of its own, and two watchdogs."""

    def parts(self) -> list[Part]:
        server = [sys.executable, f"{self.home}/server.py", str(self.ports["api"])]
        return [
            Part("api", "API", server, self.url("api"), self.url("api") + "/readyz"),
            Part("orchestrator", "orchestrator", [sys.executable, "-c", CHILD]),
            *(Part(f"watchdog-{n}", f"watchdog {n}", [sys.executable, __file__, "--watch", self.home]) for n in (1, 2)),
        ]


def stack_in(home: Path) -> WatchedStack:
    made = new_stack(home, {}, auto=True, cpus=1)
    (home / "run").mkdir(parents=True)
    (home / "server.py").write_text(WEB_SERVER)
    return WatchedStack(made.id, str(home), str(home / "temp"), 1, {**made.ports, "api": made.ports["agent-http"]})


def processes(stack: Stack) -> dict[str, list[psutil.Process]]:
    """The living processes of the stack by part; one that is about to become a part counts as that part."""
    found: dict[str, list[psutil.Process]] = {}
    for process in processes_of(stack.id, stack.run):
        try:
            line = process.cmdline()
            starting = line[line.index("api.embedded.part") + 1] if "api.embedded.part" in line else None
            named = process.environ().get("RETORT_PART") or starting or "supervisor"
        except psutil.Error:
            continue
        found.setdefault(named, []).append(process)
    return found


@dataclass
class SupervisionChaos:
    """One run over a stack; `hits` are part and signal of each."""

    stack: Stack
    random: random.Random
    hits: list[tuple[str, str]] = field(default_factory=list)
    slowest: float = 0.0  # seconds until the stack was whole again
    _signals: list[signal.Signals] = field(default_factory=list)  # drawn, and not sent yet: of any three one stops

    def run(self, kills: int) -> None:
        while len(self.hits) < kills:
            for _ in range(min(self.random.randint(1, 4), kills - len(self.hits))):
                self._hit()
                time.sleep(self.random.uniform(0, 4))
            self._settle()

    def _hit(self) -> None:
        """A part is drawn first, then one of its processes."""
        there = processes(self.stack)
        guarded = all(len(there.get(name, [])) == 1 and not stands_still(there[name][0]) for name in GUARDIANS)
        names = sorted(each for each in there if guarded or each not in GUARDIANS)
        if not names:
            return  # nothing is there right now but the last guardian
        name = self.random.choice(names)
        if not self._signals:
            self._signals = self.random.sample([signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP], 3)
        number = self._signals.pop()
        try:
            self.random.choice(there[name]).send_signal(number)
        except psutil.NoSuchProcess:
            return
        self.hits.append((name, number.name))

    def _settle(self) -> None:
        began = time.monotonic()
        while wrong := self._wrong():
            if time.monotonic() - began > SETTLE_SECONDS:
                raise AssertionError(f"after {self.hits[-6:]} the stack is not whole again within {SETTLE_SECONDS:.0f} s: {wrong}")
            time.sleep(0.5)
        self.slowest = max(self.slowest, time.monotonic() - began)
        print(f"{len(self.hits):3d} hits, whole after {time.monotonic() - began:.0f} s: {self.hits[-4:]}", flush=True)

    def _wrong(self) -> str:
        there = processes(self.stack)
        if (counted := {name: len(found) for name, found in there.items()}) != EXPECTED:
            return f"processes {counted}"
        if stopped := [process.pid for found in there.values() for process in found if stands_still(process)]:
            return f"stopped {stopped}"
        return ", ".join(
            f"{each.part.name} is {each.state} {each.health}" for each in status(self.stack) if each.state != "RUNNING" or each.health
        )


def chaos(home: Path, kills: int, seed: int) -> SupervisionChaos:
    """Raises AssertionError where something does not hold."""
    stack = stack_in(home)
    run = SupervisionChaos(stack, random.Random(seed))
    try:
        start(stack, lambda _: None)
        run.run(kills)
    finally:
        end(stack, lambda _: None)
    assert processes(stack) == {}
    assert supervisord.process(stack) is None
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--watch", type=Path, help="be a watchdog of the stack in this folder")
    options = parser.parse_args()
    if options.watch:
        watch(WatchedStack(**json.loads(stack_file(options.watch).read_text())))
    os.environ.setdefault("RETORT_STILL_SECONDS", "3")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="retort-chaos-") as folder:
        done = chaos(Path(folder) / "home", options.kills, options.seed)
    for (name, number), count in sorted(Counter(done.hits).items()):
        print(f"{name} {number} {count}")
    print(
        f"{len(done.hits)} hits in {time.monotonic() - began:.0f} s, whole again after at most {done.slowest:.0f} s; all held", flush=True
    )


if __name__ == "__main__":
    main()
