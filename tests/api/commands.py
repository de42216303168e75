"""The `retort` command for tests: a process that has its imports forks for every call, so that a call costs what the command does alone.

`Commands().run("list", environment=..., folder=...)` gives what `subprocess.run` gives of `python -m api.command.cli list`.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SECONDS = 120  # a call may take


class Commands:
    """The process that forks. It has one thread, none of a test's."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.api.commands"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, *arguments: str, environment: Mapping[str, str], folder: Path, text: str = "") -> subprocess.CompletedProcess[str]:
        """One call. text: its standard input."""
        assert self._process.stdin
        assert self._process.stdout
        asked = {"arguments": arguments, "environment": dict(environment), "folder": str(folder), "text": text}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return subprocess.CompletedProcess(["retort", *arguments], **json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def serve() -> None:
    """Answers a call a line."""
    import httpx  # noqa: F401
    import rich.live  # noqa: F401
    import yaml  # noqa: F401

    import api.client
    import api.command.cli
    import api.command.views
    import api.command.watch  # noqa: F401

    for line in sys.stdin:
        print(json.dumps(_called(**json.loads(line))), flush=True)


def _called(arguments: Sequence[str], environment: Mapping[str, str], folder: str, text: str) -> dict[str, Any]:
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(text.encode())
        given.seek(0)
        child = os.fork()
        if child == 0:
            for file, descriptor in ((given, 0), (out, 1), (err, 2)):
                os.dup2(file.fileno(), descriptor)
            os._exit(_child(arguments, environment, folder))
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return {"returncode": os.waitstatus_to_exitcode(status), "stdout": texts[0], "stderr": texts[1]}


def _child(arguments: Sequence[str], environment: Mapping[str, str], folder: str) -> int:
    """The exit status of the command, which is told as Python tells it."""
    import io
    import signal
    import traceback

    from api.command.cli import main

    signal.alarm(SECONDS)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["retort", *arguments]
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")
    try:
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return status


if __name__ == "__main__":
    serve()
