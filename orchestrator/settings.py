"""Where the parts of a running Retort find each other: one frozen object read from the environment.

Every process (service, driver, API) reads the same variables, so that a started stack is described by its environment alone.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from orchestrator.credentials import handed_to_jobs
from studies.home import retort_home


@dataclass(frozen=True)
class Settings:
    """Addresses and folders of one Retort.

    home: the state folder. database: SQLAlchemy URL. mlflow: tracking URI the relay writes to. mlflow_ui: base URL for links shown to
    people. ray: address that a driver connects to ("auto": the cluster of this machine). ray_jobs: HTTP address of Ray's dashboard.
    concurrent_studies: how many studies may have devices at once, each of which takes a driver process; further ones stay queued.
    autoscaler: whether the cluster has Ray's, which is then told what waiting trials need. least_free: bytes; while the disk of `home` has
    less, no trial is started. store: where the files of trials are kept, a folder or a URL; empty: in the state folder, which all machines
    share. cache: folder on this machine's own disk, for those who have a store.
    """

    home: Path
    database: str
    mlflow: str
    mlflow_ui: str
    ray: str
    ray_jobs: str
    concurrent_studies: int
    autoscaler: bool = False
    least_free: int = 2**29
    store: str = ""
    cache: Path = Path()

    @property
    def data(self) -> Path:
        """Folder of the datasets, where they are prepared."""
        return self.home / "data"

    @property
    def trials(self) -> Path:
        """Folder of the trials' own folders (checkpoints): shared, or those of this machine where there is a store."""
        return (self.cache if self.store else self.home) / "trials"

    def environment(self) -> dict[str, str]:
        """The variables that make a job on a node read these same settings; none of them is a secret."""
        return {
            "RETORT_HOME": str(self.home),
            **handed_to_jobs(self.database, self.home),
            "RETORT_MLFLOW": self.mlflow,
            "RETORT_MLFLOW_UI": self.mlflow_ui,
            "RETORT_RAY": self.ray,
            "RETORT_RAY_JOBS": self.ray_jobs,
            "RETORT_CONCURRENT_STUDIES": str(self.concurrent_studies),
            "RETORT_AUTOSCALER": str(int(self.autoscaler)),
            "RETORT_LEAST_FREE_MB": str(self.least_free // 2**20),
            "RETORT_STORE": self.store,  # and no RETORT_CACHE: every node has its own
            **{name: value for name, value in os.environ.items() if name.startswith("RETORT_DEADLINE_")},
        }


def settings() -> Settings:
    """The settings of this process, from RETORT_* (read anew at every call)."""
    home = retort_home()
    mlflow = os.environ.get("RETORT_MLFLOW", "http://127.0.0.1:5000")
    return Settings(
        home=home,
        database=os.environ.get("RETORT_DATABASE_URL", f"sqlite:///{home / 'retort.db'}"),
        mlflow=mlflow,
        mlflow_ui=os.environ.get("RETORT_MLFLOW_UI", mlflow),
        ray=os.environ.get("RETORT_RAY", os.environ.get("RAY_ADDRESS", "auto")),
        ray_jobs=os.environ.get("RETORT_RAY_JOBS", "http://127.0.0.1:8265"),
        concurrent_studies=int(os.environ.get("RETORT_CONCURRENT_STUDIES", "32")),
        autoscaler=os.environ.get("RETORT_AUTOSCALER", "0") != "0",
        least_free=int(os.environ.get("RETORT_LEAST_FREE_MB", "512")) * 2**20,
        store=os.environ.get("RETORT_STORE", ""),
        cache=Path(os.environ.get("RETORT_CACHE", home / "cache")).expanduser().resolve(),
    )
