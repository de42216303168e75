"""Ray's dashboard as far as the service asks it: a real server on a free port that lists nodes and takes jobs."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Dashboard:
    """nodes: by address how many CPUs and GPUs. memory: of each, in GiB. broken: the submission that it answers with an error. submitted,
    stopped: jobs it took, which run until then."""

    nodes: dict[str, tuple[int, int]] = field(default_factory=lambda: {"10.0.0.1": (2, 0)})
    memory: float = 8.0
    broken: str = ""
    submitted: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    url: str = ""

    def _node(self, address: str, cpus: int, gpus: int) -> dict[str, Any]:
        has = {"CPU": cpus, "GPU": gpus, "memory": self.memory * 2**30}
        return {"raylet": {"state": "ALIVE", "nodeManagerAddress": address, "resourcesTotal": has}}

    def get(self, path: str) -> tuple[int, Any]:
        if path.startswith("/nodes"):
            return 200, {"data": {"summary": [self._node(address, *has) for address, has in self.nodes.items()]}}
        submission = path.removeprefix("/api/jobs/")
        if submission in self.submitted:
            return 200, {"status": "STOPPED" if submission in self.stopped else "RUNNING"}
        return 404, "there is no such job"

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        if path.endswith("/stop"):
            self.stopped.append(path.split("/")[-2])
            return 200, {"stopped": True}
        submission = body["submission_id"]
        if submission == self.broken:
            return 500, "no room in study-404."
        self.submitted.append(submission)
        return 200, {"submission_id": submission}


@contextmanager
def serving(dashboard: Dashboard) -> Iterator[Dashboard]:
    """It answers at its `url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*dashboard.get(self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(*dashboard.post(self.path, json.loads(body or "null")))

        def _answer(self, status: int, data: Any) -> None:
            body = data.encode() if isinstance(data, str) else json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    dashboard.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield dashboard
    finally:
        server.shutdown()
        server.server_close()
