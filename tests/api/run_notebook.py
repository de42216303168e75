"""`make notebook`: executes examples/notebook.ipynb with nbclient against a running service, whose study somebody trains meanwhile.

Not among the tests: nbclient and a kernel are some thirty packages, which nothing else here needs.
"""

import os
import tempfile
import threading
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from orchestrator.records.store import Store
from orchestrator.settings import Settings
from tests.api.conftest import Driver, LiveService

NOTEBOOK = Path("examples/notebook.ipynb")


def train_what_comes(store: Store) -> None:
    """The first study, as soon as it is there."""
    while not store.studies():
        time.sleep(0.2)
    Driver(store, 1).train_all()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home, mlflow = Path(folder), "http://127.0.0.1:5000"
        settings = Settings(home, f"sqlite:///{home}/retort.db", mlflow, mlflow, "auto", "http://127.0.0.1:8265", 1)
        service, store = LiveService(settings), Store(settings.database)
        service.start()
        try:
            os.environ |= {"RETORT_URL": service.url, "RETORT_TOKEN": service.token}
            threading.Thread(target=train_what_comes, args=(store,), daemon=True).start()
            notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
            NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
        finally:
            service.stop()
            store.close()
    shown = [output["data"] for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert any("42.0 (+1.0)" in data.get("text/markdown", "") for data in shown), shown
    assert any("42.0" in data.get("text/html", "") for data in shown), "no data frame"
    assert any("</svg>" in data.get("image/svg+xml", "") for data in shown), "no figure"
    print(f"{NOTEBOOK}: {sum(cell.cell_type == 'code' for cell in notebook.cells)} cells executed, table, data frame and figure shown")


if __name__ == "__main__":
    main()
