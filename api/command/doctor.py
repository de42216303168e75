"""`retort doctor`: whether a deployment works, seen from the command's machine and from its service."""

from importlib.metadata import version

import typer

from studies.inert import one_line


def doctor() -> None:
    """Check a deployment: service, database, MLflow, Ray and every node; says what to mend. Exit status 1 unless all is well."""
    from api.client import Client

    client = Client()
    alive, ready = client.health()
    found = [("service", f"{client.url}, version {alive['version']}", _same_version(alive["version"]))]
    trouble = ready["orchestrator"]["trouble"]
    found.append(
        (
            "orchestrator",
            trouble or "all its loops were seen a moment ago",
            "see its log; it may need one of those below" if trouble else "",
        )
    )
    found += [(each["name"], each["found"], each["mend"]) for each in client.checks()]
    for name, what, mend in found:
        print("mend" if mend else "ok  ", one_line(f"{name}: {what}"), flush=True)
        if mend:
            print("     ->", one_line(mend), flush=True)
    raise typer.Exit(1 if any(mend for _, _, mend in found) else 0)


def _same_version(theirs: str) -> str:
    ours = version("retort")
    return "" if theirs == ours else f"this command is of version {ours}; install {theirs}, or bring the service to {ours}"
