"""Where the parts of a running Retort find each other: one frozen object read from the environment.

Every process (service, driver, API) reads the same variables, so that a started stack is described by its environment alone.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url

from studies.home import retort_home


@dataclass(frozen=True)
class Settings:
    """Addresses and folders of one Retort.

    home: the state folder. database: SQLAlchemy URL. mlflow: tracking URI the relay writes to. mlflow_ui: base URL for links shown to
    people. ray: address that a driver connects to ("auto": the cluster of this machine). ray_jobs: HTTP address of Ray's dashboard.
    concurrent_studies: how many drivers may run at once; further studies stay queued.
    """

    home: Path
    database: str
    mlflow: str
    mlflow_ui: str
    ray: str
    ray_jobs: str
    concurrent_studies: int

    @property
    def data(self) -> Path:
        """Folder of the datasets."""
        return self.home / "data"

    @property
    def trials(self) -> Path:
        """Folder of the trials' own folders (checkpoints)."""
        return self.home / "trials"

    def environment(self) -> dict[str, str]:
        """The variables that make another process read these same settings. Many may read a job's variables: a password in the database's
        URL goes by a file that only its owner reads."""
        return {
            "RETORT_HOME": str(self.home),
            **self._database_variable(),
            "RETORT_MLFLOW": self.mlflow,
            "RETORT_MLFLOW_UI": self.mlflow_ui,
            "RETORT_RAY": self.ray,
            "RETORT_RAY_JOBS": self.ray_jobs,
            "RETORT_CONCURRENT_STUDIES": str(self.concurrent_studies),
            **{name: value for name, value in os.environ.items() if name.startswith("RETORT_DEADLINE_")},
        }

    def _database_variable(self) -> dict[str, str]:
        if make_url(self.database).password is None:
            return {"RETORT_DATABASE_URL": self.database}
        file = self.home / "run" / "database-url"
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(self.database)
        return {"RETORT_DATABASE_URL_FILE": str(file)}


def settings() -> Settings:
    """The settings of this process, from RETORT_* (read anew at every call)."""
    home = retort_home()
    mlflow = os.environ.get("RETORT_MLFLOW", "http://127.0.0.1:5000")
    return Settings(
        home=home,
        database=_database_url(home),
        mlflow=mlflow,
        mlflow_ui=os.environ.get("RETORT_MLFLOW_UI", mlflow),
        ray=os.environ.get("RETORT_RAY", os.environ.get("RAY_ADDRESS", "auto")),
        ray_jobs=os.environ.get("RETORT_RAY_JOBS", "http://127.0.0.1:8265"),
        concurrent_studies=int(os.environ.get("RETORT_CONCURRENT_STUDIES", "4")),
    )


def _database_url(home: Path) -> str:
    file = os.environ.get("RETORT_DATABASE_URL_FILE")
    if file:
        return Path(file).read_text().strip()
    return os.environ.get("RETORT_DATABASE_URL", f"sqlite:///{home / 'retort.db'}")
