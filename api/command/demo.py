"""`make demo`: the embedded stack, one real study shown live, its table, and what to open and type next.

The second time everything is there already: the trials are reused and the table comes in seconds.
"""

import os
import shutil
import sys
from pathlib import Path

from rich.console import Console

from api.client import Client, Refused, Unreachable
from api.command.fitting import fitted
from api.command.specs import study_data
from api.command.views import plan_summary
from api.command.watch import watch
from api.embedded.stack import Stack, StackError
from api.embedded.supervision import up
from studies.home import retort_home

STUDY = "digits"


def main() -> int:
    """Run the demo; its exit status."""
    console = Console(highlight=False)
    try:
        console.print("Starting Ray, MLflow and the service on this machine.", style="bold")
        stack, _ = up(retort_home(), {}, auto=True, cpus=None, say=lambda line: console.print(f"  {line}", soft_wrap=True))
        return _run(stack, console)
    except KeyboardInterrupt:
        console.print(f"\nStopped. What is up stays up; stop it with: {retort()} down")
        return 130
    except (Refused, StackError, Unreachable) as error:
        console.print(str(error), style="red", soft_wrap=True)
        return 1


def _run(stack: Stack, console: Console) -> int:
    client = Client(stack.url("api"), stack.operator_token())
    spec = study_data(STUDY)
    console.print(f"\n{plan_summary(client.plan(spec))}\n", style="bold")
    study = client.submit(spec)["id"]
    try:
        last = watch(client, study, console)
    except KeyboardInterrupt:
        client.cancel(study)
        console.print(f"\nStudy {study} is stopped, what it has trained is kept. Finish it with: {retort()} resume {study} --watch")
        raise
    console.print()
    told = client.table(study)
    print(f"{fitted(told, console.width)}\n" if console.is_terminal else told)
    console.print(f"Open   {client.link()}    (its pages; the link works once, another: {retort()} link)", soft_wrap=True)
    console.print(f"       {last['mlflow'] or stack.url('mlflow')}    (MLflow)", soft_wrap=True)
    console.print(f"Type   {retort()} submit {STUDY} --set 'seeds=[0,1,2]' --watch    (the same with intervals)", soft_wrap=True)
    console.print(f"Stop   {retort()} down", soft_wrap=True)
    return 0 if last["state"] == "finished" else 1


def retort() -> str:
    """How this very `retort` is typed here."""
    found = shutil.which("retort")
    beside = Path(sys.executable).parent / "retort"
    if found and Path(found).resolve() == beside.resolve():
        return "retort"
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)


if __name__ == "__main__":
    sys.exit(main())
