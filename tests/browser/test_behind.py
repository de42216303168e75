"""MLflow's own pages behind the service's login, in a browser: they run below a prefix and load nothing from elsewhere."""

from collections.abc import Iterator

import pytest
from mlflow import MlflowClient

from orchestrator.relaying.relay import MODEL_TRAINING
from orchestrator.relaying.view import view_tags
from orchestrator.reporting.links import experiment_page, run_page
from tests.browser.chromium import Browser, Service, serving
from tests.mlflow_server import serving as serving_mlflow


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_mlflow(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


@pytest.fixture(scope="module")
def before(mlflow: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service before it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETORT_BEHIND_LOGIN", "1")
        patch.setenv("RETORT_MLFLOW", mlflow)
        with serving(tmp_path_factory.mktemp("home")) as service:
            yield service


def test_mlflow_s_pages_show_runs_and_curves_behind_the_login(before: Service, mlflow: str) -> None:
    client = MlflowClient(mlflow)
    experiment = client.create_experiment("LD", tags=MODEL_TRAINING | view_tags())
    for seed in (0, 1):
        run = client.create_run(experiment, run_name=f"seed {seed}", tags={"arm": "ld"}).info.run_id
        client.log_metric(run, "AP", 40.0 + seed, step=1)
    client.log_text(run, "<script>document.title = 'ran'</script>epochs and losses", "notes.html")
    browser = Browser(before.url)
    try:
        browser.open("/mlflow/")
        assert "Log in" in browser.text()
        browser.log_in(before.token)
        browser.open("/static/icon.svg")  # the page of the studies goes on asking for what happens
        browser.complaints()
        browser.asked()
        browser.open(experiment_page("/mlflow", experiment))
        browser.until("return ['seed 0', 'seed 1'].every((name) => document.body.innerText.includes(name))")
        browser.open(run_page("/mlflow", experiment, run) or "")
        browser.until("return document.body.innerText.includes('AP') && document.body.innerText.includes('41')")
        browser.open(f"/mlflow/#/experiments/{experiment}/runs/{run}/artifacts/notes.html")
        browser.until("return document.body.innerText.includes('notes.html')")
        assert not [each for each in browser.complaints() if "Content Security Policy" in each or "status of 403" in each]
        assert {each.partition("/mlflow/")[0] for each in browser.asked() if each.startswith("http")} == {before.url}
        assert browser.run("return document.title") != "ran"
        browser.open("/status")
        assert [link.get_attribute("href") for link in browser.all("dd a")] == [f"{before.url}/mlflow", f"{before.url}/ray/"]
    finally:
        browser.driver.quit()
