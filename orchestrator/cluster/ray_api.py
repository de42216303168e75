"""Ray's dashboard over HTTP: the jobs and nodes of a cluster, without importing Ray (the service's image has none).

The routes are those of Ray's Jobs REST API and of its dashboard's node list.
"""

from dataclasses import dataclass
from typing import Any

import httpx

from orchestrator.credentials import ray_token

_SECONDS = 30.0  # a request may take so long; submitting waits for the node's agent
_DEVICES = ("CPU", "GPU")


class RayUnreachable(ConnectionError):
    """Ray's dashboard does not answer."""


class RayAnswer(Exception):
    """Ray is there, and answered a request with an error. status: of HTTP."""

    def __init__(self, answer: httpx.Response) -> None:
        lines = [line.strip() for line in answer.text.splitlines() if line.strip()]
        said = lines[-1][:300] if lines else "nothing"  # of a traceback that is the error
        super().__init__(f"Ray answers {answer.status_code} to {answer.request.method} {answer.request.url.path}: {said}")
        self.status = answer.status_code


@dataclass(frozen=True)
class Job:
    """A submitted job. status: PENDING, RUNNING, STOPPED, FAILED or SUCCEEDED. message: Ray's words, with the end of its log on failure."""

    status: str
    message: str

    @property
    def ended(self) -> bool:
        return self.status in {"STOPPED", "FAILED", "SUCCEEDED"}


@dataclass(frozen=True)
class Node:
    """A living node. address: its IP. devices: how many CPUs and GPUs it offers to trials. memory: that it offers, in GiB. kinds: of its
    GPUs, as Ray names them."""

    address: str
    host: str
    head: bool
    devices: dict[str, float]
    memory: float
    kinds: list[str]


class RayCluster:
    """The cluster whose dashboard is at `address` (http://host:port). Every method raises RayUnreachable, RayAnswer and NoCredentials."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._http = httpx.Client(base_url=address, timeout=_SECONDS, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def submit(self, entrypoint: str, submission: str, environment: dict[str, str], resources: dict[str, float] | None = None) -> None:
        """Starts a shell command as a job; one that Ray has under this id already stays as it is. resources: custom ones it occupies."""
        body: dict[str, Any] = {"entrypoint": entrypoint, "submission_id": submission, "runtime_env": {"env_vars": environment}}
        if resources:
            body["entrypoint_resources"] = resources
        answer = self._send("POST", "/api/jobs/", json=body)
        # Ray answers 500 to an id it knows: it was submitted before, and that answer was lost.
        if answer.is_error and self.job(submission) is None:
            raise RayAnswer(answer)

    def job(self, submission: str) -> Job | None:
        """A job, None where Ray does not know it."""
        answer = self._send("GET", f"/api/jobs/{submission}")
        if answer.status_code == 404:
            return None
        data = self._good(answer).json()
        return Job(str(data["status"]), str(data.get("message") or ""))

    def running(self) -> list[str]:
        """Submission ids of the jobs that have not ended."""
        jobs = [job for job in self._good(self._send("GET", "/api/jobs/")).json() if job.get("submission_id")]
        return [str(job["submission_id"]) for job in jobs if not Job(str(job["status"]), "").ended]

    def stop(self, submission: str) -> None:
        """Asks a job to stop; one that is over or unknown needs no asking."""
        answer = self._send("POST", f"/api/jobs/{submission}/stop")
        if answer.status_code != 404:
            self._good(answer)

    def log(self, submission: str) -> str:
        """What a job has printed."""
        return str(self._good(self._send("GET", f"/api/jobs/{submission}/logs")).json()["logs"])

    def nodes(self) -> list[Node]:
        """The living nodes, the head first."""
        summary = self._good(self._send("GET", "/nodes", params={"view": "summary"})).json()["data"]["summary"]
        nodes = [_node(each) for each in summary if each["raylet"].get("state") == "ALIVE"]
        return sorted(nodes, key=lambda node: (not node.head, node.address))

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        token = ray_token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            return self._http.request(method, path, headers=headers, **options)
        except httpx.HTTPError as error:
            raise RayUnreachable(f"Ray at {self.address} does not answer ({error or type(error).__name__})") from error

    def _good(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_error:
            raise RayAnswer(answer)
        return answer


def _node(summary: dict[str, Any]) -> Node:
    raylet = summary["raylet"]
    total = raylet.get("resourcesTotal") or {}
    kinds = [name.removeprefix("accelerator_type:") for name in total if name.startswith("accelerator_type:")]
    devices = {what: float(total.get(what, 0)) for what in _DEVICES}
    address = str(raylet.get("nodeManagerAddress") or summary.get("ip"))
    return Node(
        address, str(summary.get("hostname") or address), bool(raylet.get("isHeadNode")), devices, total.get("memory", 0) / 2**30, kinds
    )
