"""The `retort` command. Imports little at the top, so that every command answers at once; each command imports what it needs."""

import json
import os
import sys
import time
import warnings
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.command import data, detectors, profiles, queue, schedules, searches, tokens, webhooks, weights
from api.command.backup import backup, restore
from api.command.doctor import doctor
from api.command.export import export
from api.command.garbage import gc
from api.command.output import Json, print_json, tell
from studies.inert import one_line

if TYPE_CHECKING:
    from rich.console import Console

    from api.client import Client

app = typer.Typer(
    name="retort",
    help="Distillation studies for object detectors: submit a spec, get the table.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data.app, name="data")
app.add_typer(detectors.app, name="detectors")
app.add_typer(weights.app, name="weights")
app.add_typer(schedules.app, name="schedule")
app.command()(doctor)
app.command()(searches.best)
app.command()(gc)
app.command()(backup)
app.command()(restore)
app.add_typer(tokens.app, name="token")
app.add_typer(webhooks.app, name="webhook")
app.add_typer(profiles.app, name="profile")
for name, command in queue.COMMANDS.items():
    app.command(name)(command)


class What(StrEnum):
    """Parts of the catalogue."""

    STUDIES = "studies"
    DETECTORS = "detectors"
    DISTILLERS = "distillers"
    DATASETS = "datasets"
    BACKBONES = "backbones"
    RECIPES = "recipes"


class ScaleName(StrEnum):
    """Scales of a study."""

    SMOKE = "smoke"
    NANO = "nano"
    PAPER = "paper"


class TableForm(StrEnum):
    """Forms of a table."""

    MD = "md"
    TEX = "tex"
    CSV = "csv"
    JSON = "json"
    HTML = "html"


def _shipped(incomplete: str) -> list[str]:
    """Ids of shipped studies, for the shell."""
    from studies.shipped import shipped_ids

    return [name for name in shipped_ids() if name.startswith(incomplete)]


_NOT_BOTH = "not with --watch; what happens to a study, for programs: retort watch ID --json"
UNBOUNDED = 10_000  # columns, where nobody looks at a terminal
StudyNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="STUDY...",
        help="YAML files, ids of shipped studies (retort catalog studies), or - for standard input",
        autocompletion=_shipped,
    ),
]
AllTables = Annotated[bool, typer.Option("--all-tables", help="all tables of the papers, without their figures")]
StudyId = Annotated[int, typer.Argument(metavar="ID", min=1, help="number of a study (retort list)")]
Scale = Annotated[ScaleName | None, typer.Option(help="instead of the scale in the spec")]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="change the spec: schedule.epochs=2, 'seeds=[0,1]', arms.ld.weight=2"),
]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        _say(f"retort {version('retort')}")
        raise typer.Exit


@app.callback()
def where(
    url: Annotated[str | None, typer.Option(help="the service to speak to [$RETORT_URL, else the stack of $RETORT_HOME]")] = None,
    token: Annotated[str | None, typer.Option(help="the token to show it [$RETORT_TOKEN]; others on this machine can see it here")] = None,
    profile: Annotated[str | None, typer.Option(help="a service by name (retort profile) [$RETORT_PROFILE]")] = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")] = False,
) -> None:
    """Which service the command is for: read from the environment by all that follows."""
    if profile and url:
        raise typer.BadParameter("a profile has its own", param_hint="--url")
    if url:
        os.environ["RETORT_URL"] = url
        os.environ.pop("RETORT_TOKEN", None)  # it is for another service
    if profile:
        os.environ["RETORT_PROFILE"] = profile
        os.environ.pop("RETORT_URL", None)
    if token:
        os.environ["RETORT_TOKEN"] = token


def main() -> None:
    """Entry point: errors that a person can mend become a line each; exit statuses are those of docs/service.md."""
    warnings.showwarning = lambda message, *_: print(one_line(f"note: {message}"), file=sys.stderr)
    try:
        app()
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
    except Exception as error:
        lines = _told(error)
        if lines is None:
            raise
        print("\n".join(map(one_line, lines)), file=sys.stderr)
        sys.exit(_status(error))


# --- the stack


@app.command()
def up(
    api_port: Annotated[int | None, typer.Option(min=1, max=65535, envvar="RETORT_API_PORT", help="the service [8080]")] = None,
    mlflow_port: Annotated[int | None, typer.Option(min=1, max=65535, envvar="RETORT_MLFLOW_PORT", help="MLflow [5000]")] = None,
    dashboard_port: Annotated[
        int | None, typer.Option(min=1, max=65535, envvar="RETORT_DASHBOARD_PORT", help="Ray's dashboard [8265]")
    ] = None,
    ray_port: Annotated[int | None, typer.Option(min=1, max=65535, envvar="RETORT_RAY_PORT", help="Ray's head [6379]")] = None,
    ports: Annotated[
        str | None, typer.Option(metavar="auto", envvar="RETORT_PORTS", help="auto: free ports where a default one is taken")
    ] = None,
    cpus: Annotated[int | None, typer.Option(min=1, help="cores for trials [all]")] = None,
    as_json: Json = False,
) -> None:
    """Start Ray, MLflow, the service and the orchestrator."""
    from api.client import Client
    from api.embedded.supervision import up as start
    from studies.home import retort_home

    if ports not in {None, "auto"}:
        raise typer.BadParameter("the only value is auto", param_hint="--ports")
    wanted = {"api": api_port, "mlflow": mlflow_port, "dashboard": dashboard_port, "ray": ray_port}
    stack, started = start(retort_home(), wanted, ports == "auto", cpus, _remark if as_json else _say)
    link = Client(stack.url("api"), stack.operator_token()).link()
    tell(
        as_json,
        {"started": started, "home": stack.home, "link": link, **{name: stack.url(name) for name in ("api", "mlflow", "dashboard")}},
        f"{'up' if started else 'already up'}: service {stack.url('api')}, MLflow {stack.url('mlflow')}, state in {stack.home}",
        f"open once, within a quarter of an hour (another link: retort link): {link}",
    )


@app.command()
def down(as_json: Json = False) -> None:
    """Stop what `up` started. Studies that run go on at the next `up`."""
    from api.embedded.supervision import down as stop
    from studies.home import retort_home

    stopped = stop(retort_home(), _remark if as_json else _say)
    tell(as_json, {"stopped": stopped}, "down" if stopped else f"nothing is up ($RETORT_HOME is {retort_home()})")


@app.command()
def status(as_json: Json = False) -> None:
    """Show each part of the stack, what is wrong and what to do about it. Exit status 1 unless all is well."""
    from api.command.views import status_data, status_table, usage_line
    from api.embedded.advice import advice
    from api.embedded.health import status as parts_of
    from api.embedded.stack import load_stack
    from orchestrator.garbage.usage import usage
    from studies.home import retort_home

    stack = load_stack()
    if stack is None:
        tell(as_json, None, f"nothing is up ($RETORT_HOME is {retort_home()}); start it with `retort up`")
        raise typer.Exit(1)
    parts = parts_of(stack)
    advised, used = advice(stack, parts, time.time()), usage(Path(stack.home))
    if as_json:
        print_json(status_data(parts, advised, used, stack.logs))
        raise typer.Exit(0 if all(part.well for part in parts) else 1)
    _console().print(status_table(parts))
    for line in advised:
        _say(f"! {line}")
    _say(usage_line(used))
    _say(f"Ray's dashboard asks for the token in {stack.token}; logs are in {stack.logs}")
    raise typer.Exit(0 if all(part.well for part in parts) else 1)


# --- studies


@app.command()
def plan(
    studies: StudyNames = None, scale: Scale = None, setting: Setting = None, all_tables: AllTables = False, as_json: Json = False
) -> None:
    """Show what studies would run: trials, what is reused, device time. Of several: a line each, and their sum."""
    from api.command.views import plan_lines, plans_lines

    asked = _documents(studies, all_tables, scale, setting)
    told = _client().plan(asked[0]) if len(asked) == 1 else _client().plans(asked)
    if as_json:
        print_json(told)
        return
    for line in plan_lines(told) if len(asked) == 1 else plans_lines(told):
        _console().print(line)


@app.command()
def submit(
    studies: StudyNames = None,
    scale: Scale = None,
    setting: Setting = None,
    all_tables: AllTables = False,
    watch: Annotated[bool, typer.Option("--watch", help="show it live and end with its table; several one after the other")] = False,
    search_only: Annotated[str | None, typer.Option(metavar="ARM", help="of a study with a search this arm's alone")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="the same key and spec make no second study [one made up for this call]")
    ] = None,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="in the queue; the higher the sooner")] = 0,
    as_json: Json = False,
) -> None:
    """Submit studies; they are queued and run."""
    asked = _documents(studies, all_tables, scale, setting)
    if search_only:
        asked = [searches.only(document, search_only) for document in asked]
    if idempotency_key and len(asked) > 1:
        raise typer.BadParameter("a key is of one study; submit them one by one", param_hint="--idempotency-key")
    if as_json and watch:
        raise typer.BadParameter(_NOT_BOTH, param_hint="--json")
    client = _client()
    made = [client.submit(document, idempotency_key, priority) for document in asked]
    if as_json:
        print_json(made[0] if len(made) == 1 else made)
        return
    ids = [study["id"] for study in made]
    for study in made:
        _say(f"study {study['id']}: {one_line(study['name'])} ({study['state']})")
    if not watch:
        _say(f"watch it: retort watch {ids[-1]}    its table: retort table {ids[-1]}    its page: {client.url}/studies/{ids[-1]}")
        return
    raise typer.Exit(max([_followed(client, study) for study in ids]))


@app.command()
def watch(
    study: StudyId, as_json: Annotated[bool, typer.Option("--json", help="its events, a line of JSON each, for programs")] = False
) -> None:
    """Show a study live until it is at rest, then its table. Ctrl-C leaves the study running."""
    client = _client()
    if not as_json:
        raise typer.Exit(_followed(client, study))
    from api.command.watch import events_of

    for event in events_of(client, study):
        _say(json.dumps(asdict(event)))
    raise typer.Exit(_ended(client.study(study)))


@app.command()
def show(study: StudyId, as_json: Json = False) -> None:
    """Show a study and its trials."""
    from api.command.views import study_lines

    client = _client()
    if as_json:
        print_json({**client.study(study), "jobs": client.trials(study)})
        return
    for line in study_lines(client.study(study), client.trials(study)):
        _console().print(line)


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=200, help="how many")] = 20,
    owner: Annotated[str | None, typer.Option(help="only what is theirs, a person's or a project's")] = None,
    as_json: Json = False,
) -> None:
    """List studies, newest first."""
    from api.command.views import studies_table

    page = _client().studies(limit=limit, owner=owner)
    if as_json:
        print_json(page["items"])
        return
    if not page["items"]:
        _say(f"no study of {one_line(owner)}" if owner else "no study yet; submit one: retort submit digits --watch")
        return
    _console().print(studies_table(page["items"]))
    if page["next"]:
        _say(f"there are more: retort list -n {min(200, limit * 2)}" + (f" --owner {one_line(owner)}" if owner else ""))


@app.command()
def logs(
    study: StudyId,
    trial: Annotated[str | None, typer.Argument(metavar="[TRIAL]", help="a trial, as in student/seed-0 [the study's driver]")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="go on until the study is at rest")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="each line as a JSON string, for programs")] = False,
) -> None:
    """Print what a study's driver or one of its trials printed, also after the end."""
    from api.command.logs import log_lines

    nothing = True
    for line in log_lines(_client(), study, trial, follow):
        nothing = False
        _say(json.dumps(line) if as_json else line)
    if nothing:
        what = f"trial {one_line(trial)}" if trial else f"study {study}"
        print(f"{what} has printed nothing yet; how it is: retort show {study}", file=sys.stderr)


@app.command()
def cancel(study: StudyId, as_json: Json = False) -> None:
    """Stop a study gracefully; what is trained is kept."""
    answer = _client().cancel(study)
    if as_json:
        print_json(answer)
        return
    _say(f"study {answer['id']} is {answer['state']}; what is missing runs with: retort resume {answer['id']}")


@app.command()
def resume(
    study: StudyId,
    watch: Annotated[bool, typer.Option("--watch", help="show it live and end with its table")] = False,
    as_json: Json = False,
) -> None:
    """Run what is missing of a cancelled, failed or incomplete study."""
    if as_json and watch:
        raise typer.BadParameter(_NOT_BOTH, param_hint="--json")
    client = _client()
    answer = client.resume(study)
    if as_json:
        print_json(answer)
        return
    _say(f"study {answer['id']} is {answer['state']}")
    if watch:
        raise typer.Exit(_followed(client, study))


@app.command()
def resend(as_json: Json = False) -> None:
    """Tell MLflow again what it could not be told; `retort status` says what that is."""
    rows = _client().resend()
    tell(as_json, {"rows": rows}, f"{rows} changes are sent to MLflow again")


@app.command()
def table(
    study: Annotated[int | None, typer.Argument(metavar="[ID]", min=1, help="number of a study (retort list)")] = None,
    format: Annotated[TableForm, typer.Option(help="md is aligned for the terminal")] = TableForm.MD,
    everything: Annotated[bool, typer.Option("--all", help="the papers' tables at a glance: what is reproduced")] = False,
    as_json: Json = False,
) -> None:
    """Print a study's table, from what is there by now."""
    if everything == (study is not None):
        raise typer.BadParameter("the number of a study, or --all", param_hint="ID")
    if study is None:
        from api.command.views import tables_lines

        if as_json:
            print_json(_client().tables())
            return

        for line in tables_lines(_client().tables()):
            _console().print(line)
        return
    format = TableForm.JSON if as_json else format
    told = _client().table(study, format).rstrip("\n")
    print(_fitted(told) if format == TableForm.MD else told)


@app.command()
def figures(
    study: StudyId,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="where the files go [figures-ID]")] = None,
    as_json: Json = False,
) -> None:
    """Draw a study's pictures, each as SVG and PNG, from what is there by now."""
    client, folder = _client(), out or Path(f"figures-{study}")
    found = client.figures(study)
    if not found:
        tell(as_json, [], f"study {study} has nothing to draw yet")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for figure in found:
        for format in ("svg", "png"):
            (folder / Path(f"{figure['name']}.{format}").name).write_bytes(client.file(figure[format]))
    files = [
        {"name": figure["name"], **{format: str(folder / f"{figure['name']}.{format}") for format in ("svg", "png")}} for figure in found
    ]
    tell(as_json, files, *(f"{each['svg']}, .png" for each in files))


@app.command()
def catalog(what: What, as_json: Json = False) -> None:
    """List what a spec may name."""
    from api.command.views import catalog_lines

    if as_json:
        print_json(_client().catalog(what))
        return

    for line in catalog_lines(what, _client().catalog(what)):
        _console().print(line)


# --- one trial, here and now


@app.command()
def trial(
    study: Annotated[str, typer.Argument(metavar="SPEC", help="a YAML file, or the id of a shipped study")],
    arm: Annotated[str | None, typer.Option(help="row of the study [its first]")] = None,
    seed: Annotated[int | None, typer.Option(help="any seed [the study's first]")] = None,
    scale: Scale = None,
    setting: Setting = None,
    profile: Annotated[bool, typer.Option("--profile", help="a trace of a few of its steps instead, for Perfetto")] = False,
    as_json: Json = False,
) -> None:
    """Run one trial (and its teacher) here and now, without Ray."""
    from rich.console import Console

    from api.command.specs import study_data
    from api.command.trial import profile_here, result_lines, run_here
    from studies.parse import parse_study

    chosen = [] if seed is None else [f"seeds=[{seed}]"]
    spec = parse_study(study_data(study, scale, [*(setting or []), *chosen]))
    arm, console = arm or spec.arms[0].id, Console(stderr=True, highlight=False) if as_json else _console()
    if profile:
        trace, told = profile_here(spec, arm, spec.seeds[0], console)
        tell(as_json, {"trace": str(trace)}, *told)
        return
    result, folder = run_here(spec, arm, spec.seeds[0], console)
    data = {
        "metrics": result.metrics,
        "checkpoint": str(result.checkpoint),
        "checkpoint_sha256": result.checkpoint_sha256,
        "folder": str(folder),
    }
    tell(as_json, data, *result_lines(spec, result, folder))


app.command()(export)
app.command("link")(tokens.link)
app.command("audit")(tokens.audit)


# --- what commands share


def _client() -> "Client":
    from api.client import Client

    return Client()


def _console() -> "Console":
    """The terminal; where the output is none, lines are as long as they are."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else UNBOUNDED)


def _fitted(table: str) -> str:
    """A table of Markdown as it is, or in a terminal fitted to its width."""
    from api.command.fitting import fitted

    return fitted(table, _console().width) if sys.stdout.isatty() else table.rstrip("\n")


def _say(text: str) -> None:
    print(text, flush=True)


def _remark(text: str) -> None:
    """Beside what is for programs."""
    print(text, file=sys.stderr, flush=True)


def _documents(studies: list[str] | None, all_tables: bool, scale: ScaleName | None, setting: list[str] | None) -> list[Any]:
    """The documents of the studies that are named, at least one."""
    from api.command.specs import study_data
    from studies.tables.shipped import numbered_tables

    named = [*(studies or []), *(numbered_tables() if all_tables else ())]
    if not named:
        raise typer.BadParameter("name a study, or ask for --all-tables", param_hint="STUDY")
    return [study_data(name, scale, setting or []) for name in named]


def _followed(client: "Client", study: int) -> int:
    """Watch, then the table; the exit status is 1 where the study came to no good end."""
    from api.command.watch import watch as show_live

    try:
        last: dict[str, Any] = show_live(client, study, _console())
    except KeyboardInterrupt:
        _say(f"\nstudy {study} goes on without you. Watch it again: retort watch {study}    stop it: retort cancel {study}")
        raise typer.Exit(130) from None
    _say("")
    _say(_fitted(client.table(study)))
    return _ended(last)


def _ended(study: dict[str, Any]) -> int:
    """The exit status of a study at rest."""
    return 0 if study["state"] == "finished" else 1


def _status(error: Exception) -> int:
    """The exit status of an error that a person can mend."""
    from api.client import Refused, Unreachable

    if isinstance(error, Unreachable):
        return 3
    return 4 if isinstance(error, Refused) and error.status in (401, 403) else 1


def _told(error: Exception) -> list[str] | None:
    """An error that a person can mend, in a line each; None for one that is ours."""
    from api.client import Refused, Unreachable
    from api.embedded.stack import StackError
    from orchestrator.backup.manifest import BackupError
    from studies.problems import SpecError
    from studies.trial import TrialFailure

    if isinstance(error, Refused):
        return error.lines()
    if isinstance(error, SpecError):
        return [f"{p.field}: {p.message}" if p.field else p.message for p in error.problems]
    if isinstance(error, TrialFailure):
        return [f"the trial failed ({error.kind}): {error.sentence}"]
    return [str(error)] if isinstance(error, Unreachable | StackError | BackupError) else None


if __name__ == "__main__":
    main()
