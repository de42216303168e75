"""One message to one address, signed as Standard Webhooks says (https://www.standardwebhooks.com), over a connection to a checked address.

The name is looked up here, every address of it is checked, and the connection goes to what was checked: a name that answers
otherwise the second time gains nothing. Redirections are not followed and the answer's body is not read.
"""

import socket
import ssl
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import httpcore
from standardwebhooks import Webhook as Signer

from orchestrator.webhooks.addresses import Network, may_be_told

DEADLINE_SECONDS = 15.0  # for one message, from looking up the name to the answer's headers


class NotSent(Exception):
    """No answer came; the text says why."""


def send(url: str, secret: str, message: str, body: str, networks: Sequence[Network]) -> int:
    """The status of the receiver's answer. message: its id, the same however often it is sent. Raises NotSent."""
    now = datetime.now(UTC)
    headers: dict[str | bytes, str | bytes] = {
        "Host": _host(url),
        "Content-Type": "application/json",
        "User-Agent": "retort-webhooks",
        "webhook-id": message,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Signer(secret).sign(message, now, body),
    }
    backend = _Checked(networks, time.monotonic() + DEADLINE_SECONDS)
    try:
        with (
            httpcore.ConnectionPool(network_backend=backend) as pool,
            pool.stream("POST", url, headers=headers, content=body.encode()) as answer,
        ):
            return int(answer.status)
    except NotSent:
        raise
    except Exception as error:  # whatever a foreign server, its name or its certificate make of it
        raise NotSent(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".removesuffix(": ")) from None


def _host(url: str) -> str:
    return url.partition("//")[2].partition("/")[0].partition("?")[0]


class _Checked(httpcore.NetworkBackend):
    """Connects to addresses that may be told, and to no other; all that its connections do ends at the deadline."""

    def __init__(self, networks: Sequence[Network], deadline: float) -> None:
        self._networks, self._deadline, self._sockets = networks, deadline, httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except OSError as error:
            raise NotSent(f"{host} is not found ({error.strerror})") from None
        for address in found:
            if not may_be_told(address, self._networks):
                raise NotSent(f"{host} is {address}, which is not a public address; networks are allowed by RETORT_WEBHOOK_NETWORKS")
        trouble: Exception = NotSent(f"{host} has no address")
        for address in found:
            try:
                return _Bounded(
                    self._sockets.connect_tcp(address, port, _left(self._deadline), local_address, socket_options), self._deadline
                )
            except httpcore.ConnectError as error:
                trouble = error
        raise trouble


class _Bounded(httpcore.NetworkStream):
    """A connection whose every step ends at the deadline: a server that drips its answer holds nobody."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Bounded(self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline)), self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise NotSent(f"no answer within {DEADLINE_SECONDS:.0f} s")
    return left
