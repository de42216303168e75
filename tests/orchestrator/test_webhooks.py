"""Webhooks: signed messages to a real receiver, kept until they are received, and none to where nobody should be asked."""

import ipaddress
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from orchestrator.records.schema import Event, Study
from orchestrator.records.store import Store
from orchestrator.webhooks import sending
from orchestrator.webhooks.addresses import BadUrl, allowed_networks, check_url, may_be_told
from orchestrator.webhooks.loop import Telling
from orchestrator.webhooks.sending import NotSent, send
from orchestrator.webhooks.store import BACKOFF, KINDS
from studies.submission import as_submission
from tests.orchestrator.conftest import Clock, a_study

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
Received = list[tuple[dict[str, str], bytes]]


class Receiver:
    """A web server that keeps what it is sent and answers as it is told."""

    def __init__(self) -> None:
        receiver = self
        self.received: Received = []
        self.status = 200
        self.slow = 0.0  # seconds between two bytes of the answer

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((dict(self.headers), body))
                for byte in b"HTTP/1.1 200 OK\r\n" * 100 if receiver.slow else b"":
                    self.wfile.write(bytes([byte]))
                    time.sleep(receiver.slow)
                self.send_response(receiver.status)
                self.send_header("Location", f"http://127.0.0.1:{receiver.port}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/retort?key=1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def telling(store: Store, monkeypatch: pytest.MonkeyPatch) -> Telling:
    monkeypatch.setenv("RETORT_WEBHOOK_NETWORKS", "127.0.0.0/8")
    return Telling(store)


def failed_study(store: Store) -> int:
    study = store.create_study(as_submission(a_study()), owner="ann")[0].id
    attempt = store.new_attempt(study)
    assert attempt
    store.start_attempt(study, attempt.number)
    store.fail_study(study, attempt.number, "its dataset cannot be made")
    return study


def test_a_failed_study_is_told_once_and_standard_webhooks_own_library_verifies_it(
    store: Store, telling: Telling, receiver: Receiver, clock: Clock
) -> None:
    failed_study(store)  # before anybody wanted to know
    store._clock.seconds += 1  # type: ignore[attr-defined]
    webhook = telling.webhooks.add(receiver.url, KINDS, "ann")
    study = failed_study(store)
    for _ in range(3):
        telling.step()
    [(headers, body)] = receiver.received
    content = Verifier(webhook.secret).verify(body, headers)
    assert content["type"] == "study.failed"
    name = store.study(study).name
    assert content["data"] == {"study": study, "name": name, "owner": "ann", "reason": "its dataset cannot be made"}
    assert headers["Content-Type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        Verifier(webhook.secret).verify(body.replace(b"ann", b"bob"), headers)
    [delivery] = telling.webhooks.deliveries(webhook.id)
    assert (delivery.delivered is not None, delivery.due, [each["status"] for each in delivery.tries]) == (True, None, [200])


def test_a_message_is_tried_again_later_and_later_and_given_up_after_three_days(
    store: Store, telling: Telling, receiver: Receiver, clock: Clock
) -> None:
    webhook = telling.webhooks.add(receiver.url, KINDS, "ann")
    failed_study(store)
    receiver.status = 503
    waited = 0
    for seconds in (*BACKOFF, 10**6):
        telling.step()
        telling.step()  # not due yet
        clock.seconds += seconds
        waited += seconds
    telling.step()
    assert len(receiver.received) == len(BACKOFF) + 1
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 1
    [delivery] = telling.webhooks.deliveries(webhook.id)
    assert (delivery.delivered, delivery.due, delivery.tries[-1]["error"]) == (None, None, "it answered 503")
    assert 3 * 86400 < sum(BACKOFF) < 4 * 86400


def test_a_receiver_that_comes_back_gets_what_it_missed_also_from_a_new_process(
    store: Store, telling: Telling, receiver: Receiver, clock: Clock
) -> None:
    webhook = telling.webhooks.add(receiver.url, KINDS, "ann")
    receiver.status = 500
    failed_study(store)
    failed_study(store)
    telling.step()
    assert len(receiver.received) == 1  # the second waits behind the first
    receiver.status = 204
    clock.seconds += 5
    again = Telling(store)
    again.step()
    again.step()
    assert [json.loads(body)["data"]["study"] for _, body in receiver.received] == [1, 1, 2]
    assert all(delivery.delivered for delivery in telling.webhooks.deliveries(webhook.id))


def test_what_got_worse_in_a_scheduled_run_is_one_message(store: Store, telling: Telling, receiver: Receiver) -> None:
    telling.webhooks.add(receiver.url, ["study.regression"], "ann")
    study = failed_study(store)
    moved = [
        {"text": f"{row}", "against": 7, "row": row, "worse": worse} for row, worse in (("ld", True), ("fitnet", False), ("frs", True))
    ]
    with telling.webhooks._writes.begin() as session:
        session.add_all(Event(study_id=study, kind="regression", data=each, time=store.now()) for each in moved)
    for process in (telling, Telling(store)):
        process.step()
        process.webhooks._seen -= 2  # as if what is looked at again began in the middle of them
        process.step()
    [(_, body)] = receiver.received
    content = json.loads(body)
    assert (content["type"], content["data"]["against"]) == ("study.regression", 7)
    assert [each["row"] for each in content["data"]["moved"]] == ["ld", "frs"]


def test_a_receiver_that_is_gone_and_one_that_was_removed_are_told_nothing_more(store: Store, telling: Telling, receiver: Receiver) -> None:
    gone, removed = (telling.webhooks.add(receiver.url, KINDS, "ann") for _ in range(2))
    failed_study(store)
    telling.webhooks.collect()
    telling.webhooks.remove(removed.id)
    receiver.status = 410
    telling.step()
    failed_study(store)
    telling.step()
    assert len(receiver.received) == 1
    assert telling.webhooks.all() == []
    assert [delivery.due for delivery in telling.webhooks.deliveries(gone.id)] == [None]


def test_a_study_that_was_deleted_is_no_trouble(store: Store, telling: Telling, receiver: Receiver) -> None:
    telling.webhooks.add(receiver.url, KINDS, "ann")
    first = failed_study(store)
    with telling.webhooks._writes.begin() as session:
        session.delete(session.get_one(Study, first))
    failed_study(store)
    telling.step()
    assert [json.loads(body)["data"]["study"] for _, body in receiver.received] == [2]


# --- where nobody should be asked

REFUSED = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
]


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_not_told(address: str) -> None:
    assert not may_be_told(address, ())


def test_public_addresses_and_allowed_networks_are_told() -> None:
    assert all(may_be_told(address, ()) for address in ("1.1.1.1", "2606:4700:4700::1111", "64:ff9b::101:101"))
    allowed = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("::1/128"))
    assert [may_be_told(address, allowed) for address in ("10.1.2.3", "::ffff:10.1.2.3", "10.2.0.1", "::1")] == [True, True, False, True]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://[::1]:80/",
        "http://169.254.169.254/latest",
        "ftp://a.example",
        "a.example",
        "http://",
        "http://u:p@a.example",
        "http://a.example/#x",
        "http://a.example:99999/",
        "http://a.example:0/",
        "http://a b.example/",
        "http://a.example/\r\nX: y",
        "file:///etc/passwd",
        "http://[::1",
    ],
)
def test_an_address_that_cannot_be_told_is_refused_when_it_is_added(url: str) -> None:
    with pytest.raises(BadUrl):
        check_url(url, ())


def test_the_networks_are_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_WEBHOOK_NETWORKS", "10.0.0.0/8, ::1/128,")
    assert [str(network) for network in allowed_networks()] == ["10.0.0.0/8", "::1/128"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]"])
def test_a_name_or_a_spelling_that_leads_inside_is_not_asked(receiver: Receiver, host: str) -> None:
    with pytest.raises(NotSent, match="is not a public address"):
        send(f"http://{host}:{receiver.port}/", "whsec_" + "A" * 32, "msg_1", "{}", ())
    assert receiver.received == []


def test_the_connection_goes_to_the_address_that_was_checked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that gives another address each time (DNS rebinding)."""
    answers = iter(["93.184.215.14", "127.0.0.1"])
    asked = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(0, 0, 0, "", (next(answers), port))]

    connected = []

    def connect(self: Any, host: str, *_: Any) -> Any:
        connected.append(host)
        raise NotSent("far away")

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    monkeypatch.setattr("httpcore.SyncBackend.connect_tcp", connect)
    with pytest.raises(NotSent, match="far away"):
        send(f"http://rebinding.example:{receiver.port}/", "whsec_" + "A" * 32, "msg_1", "{}", ())
    assert (asked, connected) == (["rebinding.example"], ["93.184.215.14"])


def test_a_redirection_is_not_followed(receiver: Receiver) -> None:
    receiver.status = 307
    assert send(receiver.url, "whsec_" + "A" * 32, "msg_1", "{}", LOOPBACK) == 307
    assert len(receiver.received) == 1


def test_a_receiver_that_drips_its_answer_is_left_at_the_deadline(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "DEADLINE_SECONDS", 0.5)
    receiver.slow = 0.02
    with pytest.raises(NotSent, match=r"no answer within|ReadTimeout"):
        send(receiver.url, "whsec_" + "A" * 32, "msg_1", "{}", LOOPBACK)


def test_nothing_listening_is_said(receiver: Receiver) -> None:
    receiver.close()
    with pytest.raises(NotSent, match="ConnectError"):
        send(receiver.url, "whsec_" + "A" * 32, "msg_1", "{}", LOOPBACK)
