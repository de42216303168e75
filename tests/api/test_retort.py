"""`from retort import Client`: studies as objects, for programs and notebooks, against a running service."""

import asyncio
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import yaml

import api.asking
from orchestrator.records.store import Store
from retort import AsyncClient, Client, OtherVersion, Refused, Unreachable
from tests.api.conftest import SPEC, Driver, LiveService
from tests.api.test_imports import loaded_after


@pytest.fixture
def client(live: LiveService) -> Client:
    return Client(live.url, live.token)


def train(store: Store) -> threading.Thread:
    """Somebody trains the first study meanwhile."""
    thread = threading.Thread(target=Driver(store, 1).train_all)
    thread.start()
    return thread


def test_a_study_is_submitted_waited_for_and_looked_at(client: Client, store: Store) -> None:
    assert client.plan(SPEC).to_train == 3
    study = client.submit(SPEC)
    assert (study.id, study.state) == (1, "queued")
    with pytest.raises(TimeoutError, match="study 1 is queued after 0 s"):
        study.wait(timeout=0)
    trainer = train(store)
    assert study.wait(timeout=60) == "finished"
    trainer.join()
    assert [trial.state for trial in study.trials()] == ["finished"] * 3
    assert next(study.events()).kind == "study"
    assert repr(study) == "<study 1: 'Does FitNet help?', finished>"
    assert [each.id for each in client.studies()] == [1]
    assert client.study(1).detail.owner


def test_a_table_is_text_and_a_data_frame(client: Client, store: Store) -> None:
    study = client.submit(SPEC)
    train(store).join()
    table = study.table()
    assert "42.0 (+1.0)" in str(table)
    assert table._repr_markdown_() == table.markdown
    assert table.tex.count("tabular") == 2
    frame = table.to_pandas()
    assert frame.loc["fitnet", "AP"] == 42.0
    assert list(frame.index)[-2:] == ["student", "fitnet"]
    assert table.data["title"] == "Does FitNet help?"


def test_figures_are_shown_as_svg(client: Client, store: Store) -> None:
    study = client.submit(SPEC)
    train(store).join()
    figures = study.figures()
    assert "learning-curves" in figures
    assert figures["learning-curves"]._repr_svg_().rstrip().endswith("</svg>")
    shown = figures._repr_html_()
    assert shown.count("<figure>") == len(figures)
    assert "<?xml" not in shown


def test_a_file_a_shipped_study_and_a_scale_are_taken(client: Client, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(SPEC))
    assert client.submit(tmp_path / "study.yaml", scale="smoke").detail.spec["scale"] == "smoke"
    assert client.submit("digits").name == client.plan("digits").name
    again = [client.submit(SPEC, idempotency_key="monday").id for _ in range(2)]
    assert again[0] == again[1]


def test_cancelled_and_resumed(client: Client) -> None:
    study = client.submit(SPEC)
    assert study.cancel() == "cancelled"
    assert study.resume() == "queued"
    with pytest.raises(Refused, match="cannot resume a study that is queued"):
        study.resume()


def test_the_same_for_await(live: LiveService, store: Store) -> None:
    async def all_of_it() -> None:
        before = set(threading.enumerate())
        async with AsyncClient(live.url, live.token) as client:
            await everything(client)
        new = set(threading.enumerate()) - before
        assert not [thread for thread in new if thread.name.startswith("asyncio_")]  # it waits in the loop alone

    async def everything(client: AsyncClient) -> None:
        study = await client.submit(SPEC)
        with pytest.raises(TimeoutError):
            await study.wait(timeout=0.01)
        trainer = train(store)
        assert await study.wait(timeout=60) == "finished"
        trainer.join()
        assert (await study.table()).to_pandas().loc["fitnet", "AP"] == 42.0
        assert "learning-curves" in await study.figures()
        assert [event.kind async for event in study.events()].count("epoch") == 6
        assert [each.id async for each in client.studies()] == [1]
        assert (await client.plan(SPEC)).reused == 0
        again = await asyncio.gather(*(client.study(1) for _ in range(20)))
        assert {each.name for each in again} == {"Does FitNet help?"}

    asyncio.run(all_of_it())


def test_a_wrong_token_and_no_service_are_two_things(live: LiveService) -> None:
    with pytest.raises(Refused) as refused:
        Client(live.url, "retort_wrong").study(1)
    assert refused.value.status == 401
    with pytest.raises(Unreachable):
        Client("http://127.0.0.1:9", "x").study(1)


def test_another_version_is_told_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.asking, "version", lambda _: "9.9.9")
    with pytest.warns(OtherVersion, match=r"is Retort 0\.1\.0, this is 9\.9\.9"):
        list(client.studies())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(client.studies())


def test_importing_it_brings_no_service_and_no_pandas() -> None:
    assert (
        loaded_after("import retort", ["fastapi", "sqlalchemy", "uvicorn", "pandas", "torch", "ray", "orchestrator.records", "IPython"])
        == []
    )


def test_the_service_s_version_is_the_command_s() -> None:
    done = subprocess.run([sys.executable, "-m", "api.command.cli", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "retort 0.1.0\n"
