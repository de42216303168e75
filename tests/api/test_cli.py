"""The `retort` command against a running service: what it prints, and its exit status."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
import yaml

from api.command.cli import app
from orchestrator.records.schema import Place
from orchestrator.records.store import Store
from tests.api.commands import Commands
from tests.api.conftest import SPEC, Driver, LiveService

Retort = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def retort(live: LiveService, tmp_path: Path, commands: Commands) -> Retort:
    """Runs `retort` in a folder with study.yaml, without a terminal."""
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(SPEC))
    environment = {**os.environ, "RETORT_URL": live.url, "RETORT_TOKEN": live.token, "RETORT_HOME": str(tmp_path), "COLUMNS": "120"}
    environment["XDG_CONFIG_HOME"] = str(tmp_path / "config")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return commands.run(*arguments, environment=environment, folder=tmp_path)

    return run


def test_submit_tells_the_id_and_what_to_type_next(retort: Retort, live: LiveService) -> None:
    done = retort("submit", "study.yaml", "--set", "name=Second try")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "study 1: Second try (queued)"
    assert "retort watch 1" in done.stdout
    assert f"its page: {live.url}/studies/1\n" in done.stdout


def test_the_same_idempotency_key_makes_one_study(retort: Retort, store: Store) -> None:
    for _ in range(2):
        assert "study 1" in retort("submit", "study.yaml", "--idempotency-key", "monday").stdout
    assert "study 2" in retort("submit", "study.yaml").stdout
    assert len(store.studies()) == 2


def test_a_refused_spec_is_a_line_a_field(retort: Retort) -> None:
    done = retort("submit", "study.yaml", "--set", "dataset=digit", "--set", "schedule.epochs=0")
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert lines[0].startswith("dataset: unknown dataset 'digit'; allowed: ")
    assert lines[1] == "schedule.epochs: Input should be greater than or equal to 1"


def test_a_plan_ends_with_its_sum(retort: Retort) -> None:
    lines = retort("plan", "study.yaml").stdout.splitlines()
    assert lines[-1] == "3 of 3 trials to train, 0 reused; no time is known yet, nothing alike was trained here."


def test_a_plan_at_paper_scale_tells_device_hours_and_what_they_assume(retort: Retort) -> None:
    told = " ".join(retort("plan", "frs2021/table-3", "--scale", "paper").stdout.split())
    assert "4 of 5 trials to train, 1 to evaluate, 0 reused; about 264 A100-hours." in told
    assert "Device-hours: RTX 2080 Ti 874, V100 598," in told
    assert "5 trials estimated: 3 x student + teacher multiply-adds of every image, twice the network's of an evaluated or" in told
    assert "measured one, at 12 FLOP per byte" in told


def test_a_plan_tells_its_measurements_by_kind(retort: Retort) -> None:
    lines = retort("plan", "pdf-distil2021/table-2", "--scale", "paper").stdout.splitlines()
    row = next(line for line in lines if "24 x D_pred" in line)
    assert [word in row for word in ("measurement", "measures", "A100-hours")] == [True] * 3
    assert any("then 24 measurements; about" in line for line in lines)


def test_plans_of_several_studies_are_a_line_each_and_their_sum(retort: Retort) -> None:
    lines = retort("plan", "frs2021/table-1", "frs2021/table-3", "--scale", "paper").stdout.splitlines()
    rows = {line.split()[0]: line.split()[1:6] for line in lines if line}
    assert rows["frs2021/table-1"] == ["14", "0", "0", "10", "4"]
    assert rows["frs2021/table-3"] == ["5", "3", "0", "2", "0"]
    assert rows["together"] == ["16", "0", "12", "4", "525"]
    assert "12 trainings and 4 evaluations to run, 0 trials are finished." in lines
    assert "name a study, or ask for --all-tables" in retort("plan").stderr


def test_list_show_and_table_tell_what_is_stored(retort: Retort, store: Store) -> None:
    assert retort("list").stdout == "no study yet; submit one: retort submit digits --watch\n"
    retort("submit", "study.yaml")
    Driver(store, 1).train_all()
    assert "3 of 3" in retort("list").stdout
    assert retort("list", "--owner", "nobody").stdout == "no study of nobody\n"
    shown = retort("show", "1").stdout
    assert "study 1  Does FitNet help?  finished" in shown
    assert "42.0" in shown
    assert "42.0 (+1.0)" in retort("table", "1").stdout
    assert retort("table", "1", "--format", "csv").stdout.startswith("arm,title,group,role,AP,AP_half_width,")


def test_cancel_and_resume_tell_the_state(retort: Retort) -> None:
    retort("submit", "study.yaml")
    assert retort("cancel", "1").stdout == "study 1 is cancelled; what is missing runs with: retort resume 1\n"
    assert retort("resume", "1").stdout == "study 1 is queued\n"
    again = retort("resume", "1")
    assert again.returncode == 1
    assert again.stderr.startswith("cannot resume a study that is queued: ")


def test_watch_without_a_terminal_prints_a_line_a_change_and_ends_with_the_table(retort: Retort, store: Store) -> None:
    retort("submit", "study.yaml")
    Driver(store, 1).train_all()
    done = retort("watch", "1")
    told = [line.split("  ", 1)[-1] for line in done.stdout.splitlines()]
    assert told[0] == "study queued"
    assert "fitnet · seed 0: epoch 2/2, AP 42.0" in told
    assert told.index("fitnet · seed 0: finished") < told.index("study finished")
    assert any("42.0 (+1.0)" in line for line in told[told.index("study finished") :])
    assert done.returncode == 0


def test_a_failed_study_ends_watch_with_exit_status_1(retort: Retort, store: Store) -> None:
    retort("submit", "study.yaml")
    driver = Driver(store, 1)
    driver.start()
    store.fail_study(1, driver.attempt, "its dataset cannot be made")
    done = retort("watch", "1")
    assert done.returncode == 1
    assert "study failed: its dataset cannot be made" in done.stdout


def test_the_catalogue_is_listed(retort: Retort) -> None:
    for what in ("studies", "detectors", "distillers", "datasets", "backbones"):
        assert retort("catalog", what).returncode == 0
    assert "temperature = 10.0" in retort("catalog", "distillers").stdout


def test_an_unknown_study_is_a_line(retort: Retort) -> None:
    assert retort("show", "7").stderr == "there is no study '7'\n"
    assert "Invalid value for 'ID'" in retort("show", "x").stderr


def test_a_service_that_is_not_there_is_said_with_what_to_do(retort: Retort, live: LiveService) -> None:
    live.stop()
    done = retort("list")
    live.start()
    assert done.returncode == 3
    assert done.stderr == f"nothing answers at {live.url}; start it with `retort up`\n"


def test_without_a_stack_of_this_home_no_service_is_guessed(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RETORT_URL"} | {"RETORT_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "api.command.cli", "cancel", "1"], env=environment, capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stderr == f"nothing is up ($RETORT_HOME is {tmp_path}); start it with `retort up`, or set RETORT_URL\n"


def test_a_stack_that_is_not_up_is_said_with_what_to_do(retort: Retort, tmp_path: Path) -> None:
    done = retort("status")
    assert done.returncode == 1
    assert done.stdout == f"nothing is up ($RETORT_HOME is {tmp_path}); start it with `retort up`\n"
    assert retort("down").stdout == f"nothing is up ($RETORT_HOME is {tmp_path})\n"


def test_into_a_pipe_lines_are_as_long_as_they_are(retort: Retort) -> None:
    name = "A name of a study that is longer than eighty columns, which a terminal breaks in two"
    retort("submit", "study.yaml", "--set", f"name={name}")
    assert name in retort("list").stdout
    assert "\x1b" not in retort("submit", "nothing\x1b[2J").stderr


def test_tokens_are_made_listed_and_revoked_and_what_was_done_is_told(retort: Retort) -> None:
    made = retort("token", "create", "nightly job", "--owner", "ann", "--scope", "read")
    assert made.stdout.startswith("retort_")
    assert made.stderr.startswith("token 2 of ann: read, until ")
    listed = retort("token", "list").stdout.splitlines()
    assert listed[0].split()[:2] == ["1", "admin"]
    assert listed[1].startswith("   2  read    ann: nightly job  (until ")
    assert retort("token", "revoke", "2").stdout == "token 2 is revoked\n"
    assert len(retort("token", "list").stdout.splitlines()) == 1
    assert "(revoked, never used)" in retort("token", "list", "--all").stdout
    assert "token.revoke token 2" in retort("audit").stdout.splitlines()[0]
    assert len(retort("audit", "token 2", "-n", "1").stdout.splitlines()) == 1
    assert retort("audit", "study 7").stdout == ""


def test_a_link_opens_the_pages_of_the_service(retort: Retort, live: LiveService) -> None:
    link = retort("link").stdout.strip()
    assert link.startswith(f"{live.url}/login?link=")
    assert "retort_session" in httpx.get(link).headers["set-cookie"]


def test_without_a_token_the_command_says_what_is_asked_for(retort: Retort, live: LiveService, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RETORT_")}
    environment |= {"RETORT_URL": live.url, "RETORT_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "api.command.cli", "list"], env=environment, capture_output=True, text=True)
    assert done.returncode == 4
    assert done.stderr.startswith("a token is asked for")


def test_every_command_prints_json_for_programs(retort: Retort, store: Store, tmp_path: Path) -> None:
    def data(*arguments: str) -> Any:
        done = retort(*arguments, "--json")
        assert (done.returncode, done.stderr) == (0, ""), arguments
        return json.loads(done.stdout)

    assert data("plan", "study.yaml")["to_train"] == 3
    assert len(data("plan", "study.yaml", "digits")["studies"]) == 2
    assert data("submit", "study.yaml")["id"] == 1
    assert [study["id"] for study in data("list")] == [1]
    assert len(data("show", "1")["jobs"]) == 3
    assert data("table", "1")["title"] == "Does FitNet help?"
    assert {"frs2021/table-1", "zhang2021/table-3"} <= {each["table"] for each in data("table", "--all")}
    assert {"digits"} <= {each["id"] for each in data("catalog", "datasets")}
    assert data("cancel", "1")["state"] == "cancelled"
    assert data("resume", "1")["state"] == "queued"
    assert data("schedule", "add", "study.yaml", "--cron", "0 2 * * 6")["id"] == 1
    assert len(data("schedule", "list")) == 1
    assert data("schedule", "show", "1")["runs"] == []
    assert data("token", "create", "x")["token"].startswith("retort_")
    assert len(data("token", "list")) == 2
    assert data("audit", "study 1")[0]["action"] == "study.resume"
    assert data("webhook", "add", "https://receiver.example/")["secret"].startswith("whsec_")
    assert len(data("webhook", "list")) == 1
    assert data("webhook", "show", "1")["deliveries"] == []
    assert data("webhook", "remove", "1") == {"id": 1, "removed": True}
    assert data("schedule", "pause", "1")["paused"]
    assert not data("schedule", "resume", "1")["paused"]
    assert data("schedule", "remove", "1") == {"id": 1, "removed": True}
    assert data("token", "revoke", "2")["revoked"]
    assert "/login?link=" in data("link")["link"]
    assert data("resend") == {"rows": 0}
    assert data("figures", "1", "--out", "pictures") == []
    assert data("weights", "list") == []
    assert data("down") == {"stopped": False}
    added = {"name": "lab", "url": "http://127.0.0.1:9", "file": str(tmp_path / "config/retort/profiles.ini")}
    assert data("profile", "add", "lab", "--url", "http://127.0.0.1:9", "--token", "x") == added
    assert data("profile", "list") == [{"name": "lab", "url": "http://127.0.0.1:9"}]
    assert data("profile", "remove", "lab") == {"name": "lab", "removed": True}


def test_for_programs_events_and_logs_are_a_line_of_json_each(retort: Retort, store: Store) -> None:
    retort("submit", "study.yaml")
    Driver(store, 1).train_all()
    done = retort("watch", "1", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert [event["id"] for event in events] == sorted(event["id"] for event in events)
    assert (events[0]["kind"], events[-1]["data"]["state"]) == ("study", "finished")
    assert retort("submit", "study.yaml", "--watch", "--json").returncode == 2
    assert retort("resume", "1", "--watch", "--json").returncode == 2
    assert retort("logs", "1", "--json").stdout == ""


def test_every_command_has_json() -> None:
    def commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            yield from commands(command, f"{path} {name}") if hasattr(command, "commands") else [(f"{path} {name}", command)]

    found = dict(commands(typer.main.get_command(app), "retort"))
    assert len(found) > 35
    assert [name for name, command in found.items() if "--json" not in {flag for each in command.params for flag in each.opts}] == []


def test_a_study_comes_from_standard_input(live: LiveService, tmp_path: Path) -> None:
    for text in (yaml.safe_dump(SPEC), json.dumps(SPEC)):
        command = [sys.executable, "-m", "api.command.cli", "--url", live.url, "--token", live.token, "submit", "-", "--json"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=tmp_path)
        assert json.loads(done.stdout)["name"] == SPEC["name"], done.stderr


def test_profiles_name_services(live: LiveService, tmp_path: Path, commands: Commands) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RETORT_")}
    environment |= {"RETORT_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}

    def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return commands.run(*arguments, environment=environment | extra, folder=tmp_path)

    assert run("profile", "add", "lab", "--url", live.url, "--token", live.token).returncode == 0
    assert (tmp_path / "config/retort/profiles.ini").stat().st_mode & 0o777 == 0o600
    assert run("profile", "list").stdout == f"lab {live.url}\n"
    assert run("--profile", "lab", "list").stdout.startswith("no study yet")
    assert run("list", RETORT_PROFILE="lab").returncode == 0
    assert run("list", RETORT_PROFILE="lab", RETORT_URL="http://127.0.0.1:9").returncode == 3
    unknown = run("--profile", "home", "list")
    assert (unknown.returncode, unknown.stderr) == (3, "there is no profile 'home'; there are: lab (retort profile add)\n")
    assert (
        run("--url", live.url, "list", RETORT_TOKEN=live.token).returncode == 4
    )  # a token of the environment is not shown to another service
    assert run("profile", "remove", "lab").returncode == 0
    assert run("profile", "list").stdout == ""


def test_exit_statuses_are_those_of_the_documentation(retort: Retort, live: LiveService) -> None:
    assert retort("list").returncode == 0
    assert retort("show", "7").returncode == 1
    assert retort("show").returncode == 2
    assert retort("--url", "http://127.0.0.1:9", "list").returncode == 3
    assert retort("--url", live.url, "--token", "retort_wrong", "list").returncode == 4


def test_the_shell_completes_commands_and_shipped_studies(retort: Retort) -> None:
    def completed(words: str) -> str:
        environment = {"_RETORT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        program = "import sys; sys.argv[0] = 'retort'; from api.command.cli import app; app(prog_name='retort')"
        return subprocess.run([sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True).stdout

    assert completed("retort sub").split() == ["submit"]
    assert "frs2021/table-1" in completed("retort submit frs").split()


def test_the_doctor_says_what_is_missing_and_how_to_mend_it(retort: Retort) -> None:
    done = retort("doctor")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("ok   service: http://127.0.0.1:")
    assert "mend orchestrator: it has never been seen" in lines
    assert any(line.startswith("ok   database: sqlite, revision ") for line in lines)
    assert any(line.startswith("mend Ray: Ray at ") and "does not answer" in line for line in lines)
    assert any(line.startswith("     -> start Ray's head; RETORT_RAY_JOBS is its dashboard's address") for line in lines)
    shown = json.loads(retort("doctor", "--json").stdout)
    assert [each["name"] for each in shown] == ["service", "orchestrator", "database", "MLflow", "Ray"]


def test_the_queue_is_shown_and_steered_by_commands(retort: Retort, store: Store) -> None:
    assert retort("queue").stdout == "nothing waits for devices\n"
    assert "study 1" in retort("submit", "study.yaml", "--priority", "2").stdout
    store.set_places([Place(study_id=1, number=1, reason="waits for devices", expected=None)])
    told = retort("queue").stdout
    assert told.startswith(f"1. study 1: {SPEC['name']} of ")
    assert told.endswith(" (2 ready, priority 2): waits for devices\n")
    assert retort("priority", "1", "--", "-3").stdout == "study 1 has priority -3\n"
    assert retort("pause", "1").stdout == "study 1 is paused; it goes on with: retort unpause 1\n"
    assert store.study(1).paused
    assert retort("unpause", "1").stdout == "study 1 goes on\n"
    assert retort("timeline", "1").stdout == "timeline-1.json: 0 stays on devices; open it at https://ui.perfetto.dev\n"


def test_a_quota_keeps_what_is_not_named(retort: Retort) -> None:
    assert retort("quota").stdout == "nobody has a quota or has used devices\n"
    retort("quota", "ada", "--devices", "4")
    retort("quota", "ada", "--hours", "100", "--weight", "2")
    assert retort("quota", "ada").stdout == "ada: 4 devices at once, 0.0 of 100 device-hours this month, weight 2\n"
    retort("quota", "ada", "--unlimited")
    assert retort("quota", "ada").stdout == "ada: any number of devices at once, 0.0 device-hours this month, weight 2\n"
    refused = retort("quota", "--devices", "4")
    assert refused.returncode == 2
    assert "whose quota?" in refused.stderr
