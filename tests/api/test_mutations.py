"""Mutated studies and headers: no answer is a server error, nothing that they hold is executed, and memory stays flat.

400 of them in every run, 10,000 with `make mutations`.
"""

import gc
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from fastapi.testclient import TestClient

from api.access.settings import AccessSettings
from api.app import create_app
from orchestrator.settings import Settings
from studies.shipped import shipped_studies
from tests.api.conftest import ADDRESS, operators_token

CANARY = "retort-canary"
NASTY = (
    f"!!python/object/apply:os.system ['touch {CANARY}']",
    f"!!python/object/new:subprocess.Popen [[touch, {CANARY}]]",
    f"__import__('os').system('touch {CANARY}')",
    f"$(touch {CANARY})",
    f"`touch {CANARY}`",
    f"'; touch {CANARY}; '",
    f"../../../../tmp/{CANARY}",
    "{{7*7}}",
    "%s%s%n",
    "'; DROP TABLE study; --",
    "<script>alert(1)</script>",
    "\x00",
    "\x1b[2J",
    "\ud800",
    "\u202e",
    "NaN",
    "-Infinity",
    "1e999",
    "9" * 400,
    "1:59:59:59",
    "[" * 200,
    "&a [*a]",
    "? !!null :",
    "x" * 5000,
    "",
)
HEADERS = [
    "Content-Type",
    "Authorization",
    "Idempotency-Key",
    "Origin",
    "Host",
    "Cookie",
    "Accept",
    "Accept-Encoding",
    "Content-Encoding",
    "Transfer-Encoding",
    "X-Forwarded-Host",
    "X-Forwarded-For",
    "X-HTTP-Method-Override",
    "Range",
    "Expect",
    "Last-Event-ID",
]
STARTERS = {
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "pickle.find_class",
}  # of a process, or of foreign code
watched: list[str] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if watched is not None and event in STARTERS:
        watched.append(event)


sys.addaudithook(_hook)


class Mutations:
    """Requests that were valid once. Equal seeds give equal requests."""

    def __init__(self, seed: int, token: str) -> None:
        self.chance = random.Random(seed)
        self.token = token
        shipped = [study.data for study in shipped_studies().values()]
        self.documents = [*(data for data in shipped if "arms" in data), shipped[-1]]  # tables are large; one of them

    def body(self) -> tuple[bytes, str]:
        """A study's text, mutated as data, as text, as bytes or not at all, and its type."""
        data = json.loads(json.dumps(self.chance.choice(self.documents)))
        if self.chance.random() < 0.6:
            for _ in range(self.chance.randint(1, 4)):
                data = self.changed(data)
        form = self.chance.choice(["json", "yaml"])
        text = json.dumps(data) if form == "json" else yaml.safe_dump(data, allow_unicode=True)
        if self.chance.random() < 0.5:
            place = self.chance.randrange(len(text) + 1)
            text = text[:place] + self.chance.choice(NASTY) + text[place + self.chance.choice([0, 0, 1, 9, 10**6]) :]
        content = bytearray(text.encode("utf-8", "surrogatepass"))
        if content and self.chance.random() < 0.3:
            for _ in range(self.chance.randint(1, 8)):
                content[self.chance.randrange(len(content))] = self.chance.randrange(256)
        return bytes(content), f"application/{form}"

    def changed(self, data: Any) -> Any:
        """The data with something in it replaced, added, doubled or gone."""
        if isinstance(data, dict) and data and self.chance.random() < 0.85:
            key = self.chance.choice(list(data))
            match self.chance.randrange(5):
                case 0:
                    return {name: value for name, value in data.items() if name != key}
                case 1:
                    return {**data, self.text(): self.value()}
                case _:
                    return {**data, key: self.changed(data[key])}
        if isinstance(data, list) and data and self.chance.random() < 0.85:
            place = self.chance.randrange(len(data))
            if self.chance.random() < 0.2:
                return data * self.chance.choice([2, 40])
            return [*data[:place], self.changed(data[place]), *data[place + 1 :]]
        return self.value()

    def value(self) -> Any:
        return self.chance.choice(
            [
                None,
                True,
                0,
                -1,
                2**63,
                10**30,
                1.5,
                -0.0,
                1e308,
                [],
                {},
                [[]],
                {"": {}},
                self.text(),
                [self.text()] * 3,
                {self.text(): self.text()},
            ]
        )

    def text(self) -> str:
        return self.chance.choice(NASTY).encode("utf-8", "replace").decode().replace("\x00", "0")

    def headers(self, kind: str) -> dict[str, bytes]:
        """Headers of a request, often with one that is not as it should be."""
        headers = {"Content-Type": kind, "Authorization": f"Bearer {self.token}"}
        if self.chance.random() < 0.5:
            name = self.chance.choice(HEADERS)
            base = self.chance.choice([headers.get(name, ""), "Bearer ", "retort_session_8080=", "http://", "application/json; charset="])
            headers[name] = base + self.chance.choice(NASTY)[:4000]
        raw = {name: value.encode("utf-8", "replace") for name, value in headers.items()}
        return {name: bytes(byte for byte in value if byte not in b"\x00\r\n").strip() for name, value in raw.items()}


@pytest.fixture
def guarded(settings: Settings) -> Iterator[TestClient]:
    """A service whose limits nobody meets."""
    limits = AccessSettings(settings.home / "token", requests=10**9, body_bytes=10**12)
    with TestClient(create_app(settings, limits), base_url=ADDRESS, raise_server_exceptions=False) as client:
        yield client


def told(service: TestClient, count: int, seed: int, token: str) -> Counter[int]:
    """How often each status was answered."""
    mutations, found = Mutations(seed, token), Counter[int]()
    for number in range(count):
        content, kind = mutations.body()
        path = "/v1/studies" if number % 4 == 0 else "/v1/studies:plan"
        answer = service.post(path, content=content, headers=mutations.headers(kind))
        assert answer.status_code < 500, (seed, number, content[:2000], answer.text)
        found[answer.status_code] += 1
    return found


def hold(service: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, count: int, seed: int = 1) -> str:
    """What came of so many of them, in a line."""
    global watched
    monkeypatch.chdir(tmp_path)
    token = operators_token(settings)
    told(service, 100, 0, token)  # what is loaded and kept once
    gc.collect()
    before = psutil.Process().memory_info().rss
    watched = []
    try:
        statuses = told(service, count, seed, token)
    finally:
        started, watched = watched, None
    gc.collect()
    assert started == []
    assert list(tmp_path.rglob(f"*{CANARY}*")) == []
    assert not Path("/tmp", CANARY).exists()
    grown = psutil.Process().memory_info().rss - before
    assert grown < 40_000_000
    assert {200, 202, 400, 401, 403, 415, 422} <= statuses.keys()
    answers = ", ".join(f"{number:,} x {status}" for status, number in sorted(statuses.items()))
    return f"{count:,} requests: {answers}; memory grew by {grown / 1e6:.1f} MB"


def test_400_mutated_studies_and_headers_break_execute_and_keep_nothing(
    guarded: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hold(guarded, settings, monkeypatch, tmp_path, 400)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_10_000_mutated_studies_and_headers_break_execute_and_keep_nothing(
    guarded: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seed: int
) -> None:
    print(f"\n{hold(guarded, settings, monkeypatch, tmp_path, 1000, seed)}")


LARGE = (
    ("json", json.dumps(dict.fromkeys([f"{n:06d}" for n in range(75_000)], 1))),
    ("json", "{" + ",".join(f'"{n:06d}":1' for n in range(80_000)) + ',"last":1,"last":2}'),
    ("json", json.dumps({"arms": [{"id": "a", "distiller": "x" * 990_000}]})),
    ("json", "[" * 990_000),
    ("yaml", "".join(f"k{n:06d}: 1\n" for n in range(49_000))),
    ("yaml", "a: 1" + ":59" * 300_000),
    ("yaml", "[" * 990_000),
    ("yaml", "name: " + "x " * 495_000),
)


@pytest.mark.parametrize(("form", "text"), LARGE)
def test_a_megabyte_is_refused_and_not_one_byte_more_is_read(service: TestClient, form: str, text: str) -> None:
    assert len(text) < 1_000_000
    kind = {"Content-Type": f"application/{form}"}
    answer = service.post("/v1/studies:plan", content=text, headers=kind)
    assert answer.status_code in (400, 422)
    assert len(answer.content) < 100_000
    larger = text + " " * (1_000_001 - len(text))
    assert service.post("/v1/studies:plan", content=larger, headers=kind).status_code == 413
    streamed = service.post(
        "/v1/studies:plan", content=(larger[at : at + 65536].encode() for at in range(0, len(larger), 65536)), headers=kind
    )
    assert streamed.status_code == 413
