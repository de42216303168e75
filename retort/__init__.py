"""Retort for notebooks and programs: submit a study, wait for it, look at its table and its figures.

    from retort import Client

    study = Client().submit("my-study.yaml")
    study.wait()
    study.table().to_pandas()

`Client()` speaks to the stack of this machine's $RETORT_HOME, to $RETORT_URL, or to what it is given; `AsyncClient` does so for `await`.
"""

from api.client import OtherVersion, Refused, StreamedEvent, Unreachable
from api.studies.schemas import PlanAnswer, StudyAnswer, StudyDetail, TrialAnswer
from retort.asynchronous import AsyncClient, AsyncStudy
from retort.client import Client, Study
from retort.results import Figure, Figures, Table

__all__ = [
    "AsyncClient",
    "AsyncStudy",
    "Client",
    "Figure",
    "Figures",
    "OtherVersion",
    "PlanAnswer",
    "Refused",
    "StreamedEvent",
    "Study",
    "StudyAnswer",
    "StudyDetail",
    "Table",
    "TrialAnswer",
    "Unreachable",
]
