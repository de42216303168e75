"""What a trial process is given, as it travels through Tune's config."""

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Order:
    """What a trial process is given. `spec`: the TrialSpec or, for the job "measurement", the MeasurementSpec as JSON data; `folder`,
    `data`: absolute paths, of which a node that has a store knows the last part alone. `dataset_digest`: of the dataset in the spec.
    `fence`: number of the lease that it is trained under; a folder takes none that is smaller than its last. `beside`: the other trials of
    its group, which the same process trains."""

    trial: str
    spec: dict[str, Any]
    folder: str
    data: str
    dataset_digest: str
    job: str = "training"
    fence: int = 0
    beside: tuple["Order", ...] = ()

    @property
    def group(self) -> tuple["Order", ...]:
        """All that the process is to do."""
        return (self, *self.beside)

    def config(self) -> dict[str, str]:
        """The order as a Tune config. One string, so that Tune has nothing to flatten, resolve or print."""
        return {"order": json.dumps(asdict(self))}

    @staticmethod
    def of(config: dict[str, Any]) -> "Order":
        return _order(json.loads(config["order"]))


def _order(content: dict[str, Any]) -> Order:
    return Order(**{**content, "beside": tuple(_order(each) for each in content.get("beside", ()))})
