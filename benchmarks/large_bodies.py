"""How long the service takes for a megabyte of anything, and how long /healthz waits meanwhile.

    python -m benchmarks.large_bodies

Each body goes to POST /v1/studies:plan of a service in a process of its own, while /healthz is asked every 20 ms.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

SIZE = 1_000_000
SPEC = {
    "name": "x",
    "dataset": "digits",
    "teacher": {"detector": "gfl", "backbone": "resnet34"},
    "student": {"detector": "gfl", "backbone": "resnet18"},
}


def bodies() -> Iterator[tuple[str, str, str]]:
    """(what it is, content type, text), each just below the limit."""
    names = [f"{n:06d}" for n in range(SIZE // 12)]
    arms = [{"id": f"a{n}"} for n in range(SIZE // 16)]
    repeated = "{" + ",".join(f'"{name}":1' for name in names) + ',"last":1,"last":2}'
    yield "JSON: distinct keys", "json", json.dumps(dict.fromkeys(names, 1), separators=(",", ":"))
    yield "JSON: distinct keys, the last one twice", "json", repeated
    yield "JSON: unknown fields in a study", "json", json.dumps({**SPEC, **dict.fromkeys(names[:49_000], 1)})
    yield "JSON: arms", "json", json.dumps({**SPEC, "arms": arms}, separators=(",", ":"))
    yield "JSON: 12,000 arms", "json", json.dumps({**SPEC, "arms": arms[:12_000]}, separators=(",", ":"))
    yield "JSON: seeds", "json", json.dumps({**SPEC, "arms": arms[:2], "seeds": list(range(49_000))})
    yield "JSON: one long text", "json", json.dumps({**SPEC, "name": "x" * 990_000})
    yield "JSON: a long method's name", "json", json.dumps({**SPEC, "arms": [{"id": "a", "distiller": "x" * 990_000}]})
    yield "JSON: methods' names", "json", json.dumps({**SPEC, "arms": [{"id": f"a{n}", "distiller": "fitnett" * 9} for n in range(9_000)]})
    yield "JSON: digits", "json", "1" * 990_000
    yield "JSON: open brackets", "json", "[" * 990_000
    yield "YAML: distinct keys", "yaml", "".join(f"{name}: 1\n" for name in names)[:SIZE]
    yield "YAML: 49,000 distinct keys", "yaml", "".join(f"k{name}: 1\n" for name in names[:49_000])
    yield "YAML: arms in a flow", "yaml", ("arms: [" + "{id: a}," * 10**6)[: SIZE - 1] + "]"
    yield "YAML: open brackets", "yaml", "[" * 990_000
    yield "YAML: one long line", "yaml", "name: " + "x " * 495_000
    yield "YAML: one long quoted text", "yaml", 'name: "' + "\\\\n" * 330_000 + '"'
    yield "YAML: comments", "yaml", "# x\n" * 247_000
    yield "YAML: deep indentation", "yaml", "".join(" " * depth + "a:\n" for depth in range(1400))
    yield "YAML: digits", "yaml", "a: " + "1" * 990_000
    yield "YAML: base 60", "yaml", "a: 1" + ":59" * 300_000


def main() -> None:
    with tempfile.TemporaryDirectory() as home, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        environment = {**os.environ, "RETORT_HOME": home, "RETORT_BODY_MB_PER_MINUTE": "10000"}
        command = [sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app", "--port", str(port), "--log-level", "error"]
        service = subprocess.Popen(command, env=environment)
        try:
            _measure(f"http://127.0.0.1:{port}", Path(home) / "token", psutil.Process(service.pid))
        finally:
            service.terminate()
            service.wait()


def _measure(url: str, token: Path, process: psutil.Process) -> None:
    while not token.exists() or not _answers(url):
        time.sleep(0.2)
    client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token.read_text().strip()}"}, timeout=300)
    print(f"{'body':<42} {'kB':>5}  status  seconds  CPU   longest wait of /healthz")
    for told, form, text in bodies():
        waits: list[float] = []
        done = threading.Event()
        asking = threading.Thread(target=_ask, args=(url, done, waits))
        asking.start()
        begun, worked = time.monotonic(), sum(process.cpu_times()[:2])
        answer = client.post("/v1/studies:plan", content=text, headers={"Content-Type": f"application/{form}"})
        seconds, cpu = time.monotonic() - begun, sum(process.cpu_times()[:2]) - worked
        done.set()
        asking.join()
        figures = f"{len(text) // 1000:>5}  {answer.status_code:>6}  {seconds:>7.2f}  {cpu:>4.2f}  {max(waits, default=0):>4.2f}"
        print(f"{told:<42} {figures}  {answer.json().get('detail', '')[:60]}", flush=True)


def _ask(url: str, done: threading.Event, waits: list[float]) -> None:
    with httpx.Client(base_url=url, timeout=300) as client:
        while not done.wait(0.02):
            begun = time.monotonic()
            client.get("/healthz")
            waits.append(time.monotonic() - begun)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    main()
