"""The relay against a real MLflow server: what a person finds there, and that sending again changes nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from PIL import Image
from sqlalchemy import update

from orchestrator.records.schema import Outbox, Study, Trial
from orchestrator.records.store import Store
from orchestrator.relaying.client import in_batches, mlflow_client
from orchestrator.relaying.reaper import Reaper
from orchestrator.relaying.relay import Relay, shortened
from orchestrator.relaying.runs import trial_params
from orchestrator.schedules.loop import Cron
from orchestrator.schedules.store import Schedules
from orchestrator.settings import Settings
from studies.expand import expand
from studies.trial import TeacherRef
from tests.mlflow_server import serving
from tests.orchestrator.conftest import ALONE, PUPIL, TEACHER, Clock, Driven, a_study


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an MLflow server with an empty database."""
    with serving(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


@pytest.fixture
def client(server: str) -> MlflowClient:
    return mlflow_client(server)


@pytest.fixture
def relay(store: Store, client: MlflowClient, server: str, tmp_path: Path) -> Relay:
    return Relay(store, client, Settings(tmp_path, "", server, server, "", "", 1), show_seconds=0.0, rest_seconds=0.0)


def submit(store: Store, folder: Path, request: pytest.FixtureRequest) -> Driven:
    """A study with an experiment of its own on the server that all tests share."""
    return Driven.start(store, folder, a_study(name=request.node.name))


@pytest.fixture
def driven(store: Store, tmp_path: Path, request: pytest.FixtureRequest) -> Driven:
    return submit(store, tmp_path, request)


def seen(client: MlflowClient, name: str) -> dict[str, Any]:
    """Everything MLflow shows of an experiment, by run name; points as (step, value, time)."""
    experiment = client.get_experiment_by_name(name)
    assert experiment
    shown: dict[str, Any] = {}
    for run in client.search_runs([experiment.experiment_id]):
        assert run.info.run_name not in shown, "two runs of one name"
        points = {
            key: [(point.step, point.value, point.timestamp) for point in client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics
        }
        files = [
            item.path
            for folder in ("", "checkpoint", "figures")
            for item in client.list_artifacts(run.info.run_id, folder)
            if not item.is_dir
        ]
        shown[run.info.run_name] = {
            "id": run.info.run_id,
            "status": run.info.status,
            "end": run.info.end_time,
            "params": run.data.params,
            "tags": run.data.tags,
            "points": points,
            "files": sorted(files),
        }
    return shown


def whole_study(driven: Driven, relay: Relay, *trials: str) -> None:
    for name in trials or (TEACHER, ALONE, PUPIL):
        driven.train(name, AP=20.0)
        relay.step()
    driven.store.conclude(driven.id, 1)
    relay.step()


def test_a_relay_that_comes_late_tells_what_each_trial_gains_all_the_same(
    driven: Driven, relay: Relay, client: MlflowClient, request: pytest.FixtureRequest
) -> None:
    for name, ap in ((TEACHER, 60.0), (ALONE, 40.0), (PUPIL, 43.5)):
        driven.train(name, AP=ap)
    driven.store.conclude(driven.id, driven.attempt)
    relay.step()
    runs = seen(client, request.node.name)
    gained = {name: run["points"]["difference"][0][1] for name, run in runs.items() if "difference" in run["points"]}
    assert gained == {driven.trial(PUPIL).title: 3.5}


def test_mlflow_shows_a_running_trial_from_inside_its_epoch(
    driven: Driven, relay: Relay, client: MlflowClient, request: pytest.FixtureRequest, clock: Clock
) -> None:
    driven.begin(TEACHER)
    inside = {"loss": 2.0, "lr": 0.01, "images_per_second": 40.0, "data_share": 0.1, "memory": 1.5, "loss_cls": 1.0}
    moments = []
    for epoch, step in ((1, 50), (2, 10)):
        sign = {"epoch": epoch, "epochs": 2, "step": step, "steps": 100, "metrics": inside}
        driven.store.record_sign(driven.id, driven.attempt, TEACHER, sign, driven.fences[TEACHER])
        moments.append(int(clock.seconds * 1000))
        clock.seconds += 30
        relay.step()
    (run,) = (run for run in seen(client, request.node.name).values() if "step/loss" in run["points"])
    names = ("loss", "lr", "images_per_second", "data_share", "memory")
    assert run["points"] == {f"step/{name}": [(50, inside[name], moments[0]), (110, inside[name], moments[1])] for name in names}


def test_a_study_is_a_parent_run_with_a_child_per_trial(driven: Driven, relay: Relay, client: MlflowClient) -> None:
    whole_study(driven, relay)
    name = driven.store.study(driven.id).name
    runs = seen(client, name)
    parent = f"{name} #{driven.id}"
    assert set(runs) == {parent, "teacher: GFL ResNet-34 · seed 0", "student · seed 0", "fitnet · seed 0"}
    assert {run["status"] for run in runs.values()} == {"FINISHED"}
    children = [run for run in runs.values() if run["tags"].get("mlflow.parentRunId") == runs[parent]["id"]]
    assert len(children) == 3
    pupil = runs["fitnet · seed 0"]
    assert pupil["points"] == {
        "AP": [(1, 10.0, 1_000_000_000), (2, 20.0, 1_000_000_000)],
        "difference": [(2, 0.0, 1_000_000_000)],
    }
    assert pupil["tags"]["arm"] == "fitnet"
    assert pupil["tags"]["seed"] == "0"
    assert pupil["tags"]["trial_key"] == f"key of {PUPIL}"
    assert pupil["tags"]["git_sha"] == "abc"
    assert pupil["tags"]["dataset_digest"] == "digest"
    assert pupil["params"]["detector"] == "gfl"
    assert pupil["params"]["epochs"] == "2"
    assert pupil["files"] == [f"checkpoint/{driven.id}-fitnet-seed-0.pth"]
    assert runs[parent]["files"] == [
        *(f"figures/{name}.{format}" for name in ("gains", "learning-curves") for format in ("png", "svg")),
        *(f"table.{format}" for format in ("csv", "html", "json", "md", "tex")),
    ]
    assert "| fitnet" in runs[parent]["tags"]["mlflow.note.content"]
    assert f"/runs/{pupil['id']}?workflowType=machine_learning)" in runs[parent]["tags"]["mlflow.note.content"]


def test_an_experiment_has_a_prepared_view_and_the_study_links_to_it(driven: Driven, relay: Relay, client: MlflowClient) -> None:
    whole_study(driven, relay)
    study = driven.store.study(driven.id)
    view = json.loads(client.get_experiment(str(study.experiment)).tags["mlflow.sharedViewState.retort"])
    assert view["selectedColumns"] == [
        *("tags.`arm`", "tags.`seed`"),
        *("metrics.`AP`", "metrics.`AP50`", "metrics.`AP75`", "metrics.`difference`"),
    ]
    assert view["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "arm"}]
    assert [chart["metricKey"] for chart in view["compareRunCharts"]] == ["AP", "loss", "loss_cls"]
    assert view["compareRunSections"][0]["name"] < "step", "MLflow sorts its sections, and makes one of the metrics by step"
    link = f"/#/experiments/{study.experiment}/runs?workflowType=machine_learning&viewStateShareKey=retort"
    description = client.get_run(str(study.run)).data.tags["mlflow.note.content"]
    assert f"{link})" in description
    assert f"{link}&compareRunsMode=CHART)" in description


def test_errors_are_drawn_for_every_trial_and_for_the_arms_side_by_side(
    driven: Driven, relay: Relay, client: MlflowClient, tmp_path: Path
) -> None:
    curves = {name: [1.0 - 0.1 * rank] * 101 for rank, name in enumerate(reversed(("C75", "C50", "Loc", "Sim", "Oth", "BG", "FN")))}
    driven.train(TEACHER)
    (Path(str(driven.trial(TEACHER).checkpoint)).parent / "error_curves.json").write_text(json.dumps(curves))
    whole_study(driven, relay, ALONE, PUPIL)
    name = driven.store.study(driven.id).name
    runs = seen(client, name)
    assert {"error_curves.json", "error_curves.png"} <= set(runs["fitnet · seed 0"]["files"])
    study = runs[f"{name} #{driven.id}"]
    assert {"figures/errors.png", "figures/errors.svg", "figures/gains.png", "figures/learning-curves.svg"} <= set(study["files"])
    drawn = Image.open(client.download_artifacts(study["id"], "figures/errors.png", str(tmp_path)))
    assert drawn.width > 2.5 * drawn.height  # three panels


def test_sending_everything_again_changes_nothing(driven: Driven, relay: Relay, client: MlflowClient, store: Store) -> None:
    whole_study(driven, relay)
    name = store.study(driven.id).name
    before = seen(client, name)
    for trial in store.trials(driven.id):
        store.tell_mlflow_again(driven.id, trial.id)
        store.set_trial_run(trial.id, None, trial.key)  # as if the relay had died between making a run and storing its id
    store.tell_mlflow_again(driven.id, None)
    relay.step()
    assert seen(client, name) == before
    assert store.outbox() == []


def test_a_running_study_shows_as_running(driven: Driven, relay: Relay, client: MlflowClient, store: Store) -> None:
    driven.begin(ALONE)
    driven.epoch(ALONE, 1)
    relay.step()
    runs = seen(client, store.study(driven.id).name)
    assert {run["status"] for run in runs.values()} == {"RUNNING"}
    assert runs["student · seed 0"]["points"]["AP"] == [(1, 10.0, 1_000_000_000)]


def test_failed_and_cancelled_trials_are_failed_and_killed_and_the_unstarted_have_no_run(
    driven: Driven, relay: Relay, client: MlflowClient, store: Store
) -> None:
    driven.begin(ALONE)
    driven.begin(TEACHER)
    driven.fail(TEACHER, "nan", "the loss became NaN")
    store.request_cancel(driven.id)
    store.stopped(driven.id, 1)
    relay.step()
    runs = seen(client, store.study(driven.id).name)
    status = {name: run["status"] for name, run in runs.items()}
    assert status == {
        f"{store.study(driven.id).name} #{driven.id}": "KILLED",
        "student · seed 0": "KILLED",
        "teacher: GFL ResNet-34 · seed 0": "FAILED",
        "fitnet · seed 0": "FAILED",
    }
    assert runs["fitnet · seed 0"]["tags"]["reason"] == f"it needs {TEACHER}, which failed: the loss became NaN"


def test_a_resumed_study_goes_on_in_its_runs(driven: Driven, relay: Relay, client: MlflowClient, store: Store) -> None:
    driven.begin(ALONE)
    driven.epoch(ALONE, 1)
    store.request_cancel(driven.id)
    store.stopped(driven.id, 1)
    relay.step()
    name = store.study(driven.id).name
    before = {run: told["id"] for run, told in seen(client, name).items()}
    store.request_resume(driven.id)
    attempt = store.new_attempt(driven.id)
    assert attempt
    driven.attempt = attempt.number
    store.start_attempt(driven.id, driven.attempt)
    driven.begin(ALONE)
    relay.step()
    assert {run["status"] for run in seen(client, name).values()} == {"RUNNING"}
    driven.epoch(ALONE, 1)
    driven.epoch(ALONE, 2)
    driven.finish(ALONE)
    for other in (TEACHER, PUPIL):
        driven.train(other)
    store.conclude(driven.id, driven.attempt)
    relay.step()
    runs = seen(client, name)
    assert {run["status"] for run in runs.values()} == {"FINISHED"}
    assert [point[0] for point in runs["student · seed 0"]["points"]["AP"]] == [1, 2]
    assert before.items() <= {run: told["id"] for run, told in runs.items()}.items()


def test_a_cached_trial_has_its_points_and_says_so(
    driven: Driven, relay: Relay, client: MlflowClient, store: Store, tmp_path: Path
) -> None:
    driven.train(ALONE, "same")
    again = Driven.start(store, tmp_path, a_study(name=store.study(driven.id).name + " again"))
    again.claim(ALONE, "same")
    relay.step()
    run = seen(client, store.study(again.id).name)["student · seed 0"]
    assert run["status"] == "FINISHED"
    assert [point[0] for point in run["points"]["AP"]] == [1, 2]
    assert run["tags"]["state"] == "cached"
    assert run["files"] == []


def test_at_most_forty_metrics_and_average_precision_is_among_them(
    driven: Driven, relay: Relay, client: MlflowClient, store: Store
) -> None:
    driven.begin(ALONE)
    driven.epoch(ALONE, 1, AP=1.0, **{f"loss_{n}": 1.0 for n in range(60)})
    relay.step()
    points = seen(client, store.study(driven.id).name)["student · seed 0"]["points"]
    assert len(points) == 40
    assert "AP" in points


def test_a_run_deleted_in_mlflow_is_made_again_with_all_its_points(
    driven: Driven, relay: Relay, client: MlflowClient, store: Store
) -> None:
    driven.begin(ALONE)
    driven.epoch(ALONE, 1)
    relay.step()
    run = driven.trial(ALONE).run
    assert run
    client.delete_run(run)
    driven.epoch(ALONE, 2)
    relay.step()
    points = seen(client, store.study(driven.id).name)["student · seed 0"]["points"]
    assert [point[0] for point in points["AP"]] == [1, 2]


def test_while_mlflow_is_away_nothing_is_lost(
    driven: Driven, store: Store, relay: Relay, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven.begin(ALONE)
    away = Relay(store, mlflow_client("http://127.0.0.1:1"), relay.settings)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    waiting = len(store.outbox())
    with pytest.raises(MlflowException):
        away.step()
    assert len(store.outbox()) == waiting
    relay.step()
    assert store.outbox() == []


def test_a_study_that_cannot_be_told_is_set_aside_and_keeps_no_other_waiting(
    driven: Driven, store: Store, relay: Relay, client: MlflowClient, tmp_path: Path
) -> None:
    with store._writes.begin() as session:
        session.execute(update(Study).where(Study.id == driven.id).values(presentation={"rows": "lost"}))
        session.add_all(Outbox(study_id=driven.id, time=0) for _ in range(600))
    other = Driven.start(store, tmp_path, a_study(name=store.study(driven.id).name + " behind it"))
    other.train(ALONE)
    for _ in range(5):
        relay.step()
    assert seen(client, store.study(other.id).name)["student · seed 0"]["status"] == "FINISHED"
    while store.outbox():
        relay.step()
    (aside,) = store.set_aside()
    assert (aside.study_id, aside.rows) == (driven.id, 601)
    assert aside.trouble.startswith("the study: ValidationError: ")
    assert "is not asked again" in store.events(driven.id)[-1].data["text"]
    with store._writes.begin() as session:
        session.execute(update(Study).where(Study.id == driven.id).values(presentation=other_presentation(store, other)))
    assert store.send_again() == 601
    relay.step()
    assert (store.outbox(), store.set_aside()) == ([], [])


def other_presentation(store: Store, driven: Driven) -> dict[str, Any]:
    return store.presentation(driven.id).model_dump(mode="json")


def test_a_running_study_is_shown_every_few_seconds_and_its_end_at_once(
    driven: Driven, store: Store, client: MlflowClient, relay: Relay
) -> None:
    calm = Relay(store, client, relay.settings, show_seconds=3600.0)
    driven.train(ALONE)
    calm.step()
    assert store.outbox() == []
    driven.train(TEACHER)
    calm.step()
    assert {row.trial_id for row in store.outbox()} == {None}
    driven.train(PUPIL)
    store.conclude(driven.id, driven.attempt)
    calm.step()
    assert store.outbox() == []


def test_a_description_that_is_too_long_ends_with_a_whole_line() -> None:
    long = "".join(f"| row {number} | 12.3 |\n" for number in range(1000))
    kept = shortened(long)
    assert len(kept) <= 8000
    assert kept.splitlines()[-1] == "The rest is in description.md, among the artifacts."
    assert all(line.endswith("| 12.3 |") for line in kept.splitlines()[:-2])
    assert shortened("short\n") == "short\n"


def test_the_reaper_ends_what_only_mlflow_takes_for_running(driven: Driven, relay: Relay, client: MlflowClient, store: Store) -> None:
    whole_study(driven, relay)
    run = driven.trial(ALONE).run
    assert run
    client.update_run(run, status="RUNNING")
    tags = {**client.get_run(run).data.tags, "retort.id": client.get_run(run).data.tags["retort.id"] + "-old"}
    lost = client.create_run(client.get_run(run).info.experiment_id, tags=tags).info.run_id
    reaper = Reaper(store, client)
    reaper.step()
    relay.step()
    assert client.get_run(run).info.status == "FINISHED"
    assert client.get_run(lost).info.status == "RUNNING"  # it might be in the making
    reaper.step()
    assert client.get_run(lost).info.status == "KILLED"


def test_params_tell_teacher_and_options() -> None:
    planned = {trial.id: trial for trial in expand(a_study()).trials}[PUPIL]
    teacher = TeacherRef.model_validate({"network": {"detector": "gfl", "backbone": "resnet34"}, "checkpoint": "/x", "sha256": "1"})
    params = trial_params(Trial(spec=planned.resolve(a_study(), teacher).model_dump(mode="json")))
    assert params["distiller"] == "fitnet"
    assert params["teacher.backbone"] == "resnet34"
    assert params["fitnet.weight"] == "1.0"
    assert params["fitnet.region"] == "whole"
    assert "/x" not in params.values()


def test_batches_hold_everything_in_order() -> None:
    assert [list(batch) for batch in in_batches([1, 2, 3, 4, 5], 2)] == [[1, 2], [3, 4], [5]]


def test_a_scheduled_study_shows_its_schedule_and_what_moved(
    relay: Relay, store: Store, clock: Clock, client: MlflowClient, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    schedules = Schedules(store)
    schedule = schedules.add(a_study(name=request.node.name, metrics=["AP"]).model_dump(mode="json"), "* * * * *", fresh=True)
    for number, fitnet in ((1, 40.0), (2, 30.0)):
        clock.seconds += 60
        Cron(store).step()
        assert store.new_attempt(number)
        store.start_attempt(number, 1)
        driven = Driven(store, number, tmp_path)
        for trial in (TEACHER, ALONE, PUPIL):
            driven.train(trial, key=f"{trial} {number}", AP=fitnet if trial == PUPIL else 20.0)
        store.conclude(number, 1)
        relay.step()
        Cron(store).step()
        relay.step()
    first, second = (client.get_run(str(store.study(number).run)).data.tags for number in (1, 2))
    assert first["schedule"] == second["schedule"] == str(schedule.id)
    assert "regression" not in first
    assert second["regression"] == "worse: fitnet: AP 40.0 -> 30.0 (-10.0, noise 0.20)"
    assert "WORSE: fitnet: AP 40.0 -> 30.0" in second["mlflow.note.content"]
