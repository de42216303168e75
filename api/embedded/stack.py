"""The embedded stack described: its parts, their ports, commands and environment, and the file that says where a running one is.

Pure description; `api.embedded.supervision` starts and stops it. Everything listens on loopback only.
"""

import hashlib
import json
import os
import secrets
import socket
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from studies.home import retort_home

LOOPBACK = "127.0.0.1"
# Public ports: name -> (default, what answers there).
PORTS: dict[str, tuple[int, str]] = {
    "api": (8080, "the REST service"),
    "mlflow": (5000, "MLflow"),
    "dashboard": (8265, "Ray's dashboard"),
    "ray": (6379, "Ray's head"),
}
# Ray opens these too; nobody types them, so each stack takes free ones and two stacks never meet.
_QUIET_PORTS = ("ray-client", "agent-http", "agent-grpc", "ray-metrics", "runtime-env", "dashboard-metrics")
DEADLINES = ("START", "SILENCE", "EPOCH", "LOCK", "DRIVER", "STOP")
# What a person sets for `up` and the parts read.
_PASSED_ON = (
    "RETORT_AUTOSCALER",
    "RETORT_CACHE",
    "RETORT_CONCURRENT_STUDIES",
    "RETORT_MLFLOW_UI",
    "RETORT_STILL_SECONDS",
    "RETORT_STORE",
    "RETORT_LEAST_FREE_MB",
    "RETORT_DATABASE_PASSWORD_FILE",
    *(f"RETORT_DEADLINE_{name}" for name in DEADLINES),
    *(f"RETORT_GC_{name}" for name in ("STATES", "FOLDERS", "EVENTS", "POINTS")),
    "RETORT_ALLOWED_HOSTS",
    "RETORT_BEHIND_LOGIN",
    "RETORT_REQUESTS_PER_MINUTE",
    "RETORT_BODY_MB_PER_MINUTE",
)
_RAY_WORKERS = range(10002, 20000)
_LONGEST_SOCKET = 100  # bytes of a unix socket's path that every system takes
_OBJECT_STORE_BYTES = 512 * 2**20  # trials exchange files, not objects


class StackError(Exception):
    """The stack cannot start, stop or be found; the text says why and what to do."""


@dataclass(frozen=True)
class Part:
    """One supervised process. `address` is what a person opens or None; `health` the URL that answers 200 when it works, or None."""

    name: str
    title: str
    command: list[str]
    address: str | None = None
    health: str | None = None


@dataclass(frozen=True)
class Stack:
    """A running (or starting) embedded stack. `id` marks its processes: each has RETORT_STACK=<id> in its environment."""

    id: str
    home: str
    temp: str
    cpus: int
    ports: dict[str, int]

    @property
    def run(self) -> Path:
        """Folder of the sockets, logs and the configuration of the running stack."""
        return Path(self.home) / "run"

    @property
    def logs(self) -> Path:
        """Folder of the parts' logs."""
        return Path(self.home) / "logs"

    @property
    def socket(self) -> Path:
        """The supervisor's control socket; under `temp` where the home's path is too long for a socket."""
        wanted = self.run / "supervisor.sock"
        return wanted if len(os.fsencode(wanted)) <= _LONGEST_SOCKET else Path(self.temp) / "supervisor.sock"

    @property
    def pidfile(self) -> Path:
        """The supervisor's process id."""
        return self.run / "supervisor.pid"

    @property
    def token(self) -> Path:
        """The file with the token that Ray asks for."""
        return self.run / "ray-token"

    @property
    def operator(self) -> Path:
        """The file with the operator's token of the service, which makes it."""
        return Path(self.home) / "token"

    def operator_token(self) -> str | None:
        """The operator's token, None before the service has made it."""
        try:
            return self.operator.read_text().strip()
        except FileNotFoundError:
            return None

    def url(self, port: str) -> str:
        """Base URL of what answers at a public port."""
        return f"http://{LOOPBACK}:{self.ports[port]}"

    def parts(self) -> list[Part]:
        """The parts in the order in which they start."""
        return [
            Part("mlflow", "MLflow", self._mlflow(), self.url("mlflow"), self.url("mlflow") + "/health"),
            Part("ray", "Ray", self._ray(), self.url("dashboard"), self.url("dashboard") + "/api/version"),
            Part("api", "API", self._api(), self.url("api"), self.url("api") + "/readyz"),
            Part("orchestrator", "orchestrator", [sys.executable, "-m", "orchestrator.service"]),
            *(Part(f"watchdog-{n}", f"watchdog {n}", [sys.executable, "-m", "api.embedded.watchdog"]) for n in (1, 2)),
        ]

    def environment(self) -> dict[str, str]:
        """The environment of every part: this process's own, without what would lead to another cluster or store."""
        foreign = ("RAY_", "MLFLOW_", "RETORT_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        unproxied = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1,localhost"]))
        return {
            **inherited,
            "no_proxy": unproxied,
            "NO_PROXY": unproxied,
            "DO_NOT_TRACK": "true",
            "RETORT_STACK": self.id,
            "RETORT_TOKEN_FILE": str(self.operator),
            "RETORT_HOME": self.home,
            "RETORT_DATABASE_URL": os.environ.get("RETORT_DATABASE_URL", f"sqlite:///{self.home}/retort.db"),
            "RETORT_MLFLOW": self.url("mlflow"),
            "RETORT_RAY": f"{LOOPBACK}:{self.ports['ray']}",
            "RETORT_RAY_JOBS": self.url("dashboard"),
            "RETORT_WEBHOOK_NETWORKS": os.environ.get("RETORT_WEBHOOK_NETWORKS", "127.0.0.0/8,::1/128"),  # receivers on this machine
            **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            "MLFLOW_TRACKING_URI": self.url("mlflow"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # jobs of its LLM features: three more processes
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DEDUP_LOGS": "0",
            # Seconds that Ray's head waits for its dashboard and for its raylet; its own, 20 and 30, are too short on a busy machine.
            "RAY_NUM_REDIS_GET_RETRIES": "120",
            "RAY_raylet_start_wait_time_s": "120",
            # Ray replaces 127.0.0.1 by the machine's outer address and listens there, unless told that this is no cluster.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            "DASHBOARD_METRIC_PORT": str(self.ports["dashboard-metrics"]),
        }

    def save(self) -> None:
        """Write the file by which commands find this stack (readable by its owner only)."""
        partial = self.run / "stack.json.partial"
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n")
        partial.replace(stack_file(Path(self.home)))

    def _mlflow(self) -> list[str]:
        folder = Path(self.home) / "mlflow"
        return [
            *(sys.executable, "-m", "orchestrator.mlflow_server", "--workers", "1"),
            *("--host", LOOPBACK, "--port", str(self.ports["mlflow"])),
            *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
            *("--serve-artifacts", "--artifacts-destination", str(folder / "artifacts")),
        ]

    def _ray(self) -> list[str]:
        return [
            *(sys.executable, "-m", "orchestrator.cluster.ray_head", "--disable-usage-stats", "--log-color", "false"),
            *("--node-ip-address", LOOPBACK, "--port", str(self.ports["ray"])),
            *("--include-dashboard", "true", "--dashboard-host", LOOPBACK, "--dashboard-port", str(self.ports["dashboard"])),
            *("--num-cpus", str(self.cpus), "--object-store-memory", str(_OBJECT_STORE_BYTES)),
            *("--temp-dir", str(Path(self.temp) / "ray")),
            # Two processes less: one node is not scaled, and drivers do not print what trials do.
            *("--no-monitor", "--include-log-monitor", "false"),
            *("--ray-client-server-port", str(self.ports["ray-client"])),
            *("--dashboard-agent-listen-port", str(self.ports["agent-http"])),
            *("--dashboard-agent-grpc-port", str(self.ports["agent-grpc"])),
            *("--metrics-export-port", str(self.ports["ray-metrics"])),
            *("--runtime-env-agent-port", str(self.ports["runtime-env"])),
        ]

    def _api(self) -> list[str]:
        return [
            *(sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app", "--no-access-log"),
            *("--host", LOOPBACK, "--port", str(self.ports["api"]), "--timeout-graceful-shutdown", "2"),
        ]


def stack_file(home: Path) -> Path:
    """Where a running stack says how to reach it."""
    return home / "run" / "stack.json"


def load_stack(home: Path | None = None) -> Stack | None:
    """The stack that was started for this home and not stopped, or None."""
    try:
        return Stack(**json.loads(stack_file(home or retort_home()).read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None


def new_stack(home: Path, wanted: dict[str, int | None], auto: bool, cpus: int | None) -> Stack:
    """A stack for this home. `auto`: a free port where none is wanted and the default is taken. Raises StackError for a taken one."""
    ports = {name: _port(name, wanted.get(name), auto) for name in PORTS}
    twice = [name for name in ports if list(ports.values()).count(ports[name]) > 1 and ports[name]]
    if twice:
        raise StackError(f"{' and '.join(f'--{name}-port' for name in twice)} are the same port {ports[twice[0]]}")
    unset = [name for name, port in ports.items() if port == 0]
    free = _free_ports(len(unset) + len(_QUIET_PORTS), set(ports.values()))
    ports.update(zip([*unset, *_QUIET_PORTS], free, strict=True))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Stack(id=secrets.token_hex(8), home=str(home), temp=str(_short_folder(home)), cpus=cpus or cores, ports=ports)


def _port(name: str, wanted: int | None, auto: bool) -> int:
    """The port for `name`, 0 where any will do."""
    default, what = PORTS[name]
    port = wanted or default
    if name in ("ray", "dashboard") and port in _RAY_WORKERS:
        told = f"port {port} for {what} lies in {_RAY_WORKERS.start}-{_RAY_WORKERS.stop - 1}, which Ray keeps for its workers"
        raise StackError(f"{told}; choose another with --{name}-port N")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if auto and wanted is None:
                return 0
            raise StackError(
                f"port {port} for {what} is taken{_holder(port)} ({error.strerror}).\n"
                f"Choose another with --{name}-port N, or let `retort up --ports auto` take free ones."
            ) from None
    return port


def _holder(port: int) -> str:
    """What follows "is taken": who holds the port, where the system tells."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        pass
    return ""


def _free_ports(count: int, avoid: set[int]) -> list[int]:
    probes = []
    try:
        ports: list[int] = []
        while len(ports) < count:
            probe = socket.socket()
            probes.append(probe)
            probe.bind((LOOPBACK, 0))
            port = probe.getsockname()[1]
            if port not in avoid:
                ports.append(port)
        return ports
    finally:
        for probe in probes:
            probe.close()


def _short_folder(home: Path) -> Path:
    """A folder for sockets whose path stays short, one for each home and user."""
    name = f"retort-{os.getuid()}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:8]}"
    base = Path(tempfile.gettempdir())
    return (base if len(os.fsencode(base)) <= 20 else Path("/tmp")) / name
