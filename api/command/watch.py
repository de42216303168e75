"""`retort watch`: a study's trials live in the terminal, one line each, fed by the event stream and picked up again when it breaks.

    reader thread: events --> queue          (reconnects from the last id it saw)
    screen:        queue  --> fetch the study and the trials that changed, at most once a second; draw four times a second

Where the output is no terminal, every change is one plain line instead.
"""

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from api.client import Client, Refused, StreamedEvent, Unreachable
from studies.inert import one_line

_RETRY_SECONDS = 1.0
_FETCH_SECONDS = 1.0
_SINGLY = 50  # so many trials are asked for by name
_ALL = "*"
_DRAWS_A_SECOND = 4
STYLES = {
    "queued": "yellow",
    "running": "bold cyan",
    "cancelling": "yellow",
    "cancelled": "yellow",
    "finished": "green",
    "failed": "bold red",
    "cached": "green",
    "stopped": "green",
    "ready": "yellow",
    "waiting": "dim",
}


@dataclass
class Snapshot:
    """A study and its trials as last fetched.

    epoch_ended: when each trial ended its last epoch. note: what was last told about the study itself.
    trouble: why nothing newer is known, or empty.
    """

    study: dict[str, Any]
    trials: list[dict[str, Any]]
    epoch_ended: dict[str, datetime] = field(default_factory=dict)
    note: str = ""
    trouble: str = ""


def watch(client: Client, study: int, console: Console) -> dict[str, Any]:
    """Show a study until it is at rest; the study as it then is.

    KeyboardInterrupt passes through and leaves the study as it is. Raises Refused, Unreachable.
    """
    snapshot = Snapshot(client.study(study), client.trials(study))
    if console.is_terminal:
        _live(client, study, snapshot, console)
    else:
        _plain(client, study, snapshot, console)
    return client.study(study)


def events_of(client: Client, study: int) -> Iterator[StreamedEvent]:
    """All events of a study until it is at rest, for programs; troubles with the connection go to stderr. Raises Refused."""
    with _reading(client, study) as reader:
        while (item := reader.items.get()) is not None:
            if isinstance(item, Exception):
                raise item
            if isinstance(item, StreamedEvent):
                yield item
            else:
                print(item, file=sys.stderr)


# --- the event stream, however often it breaks

# An event; a text (what is wrong with the connection); an error that ends it all; None: the study is at rest.
Item = StreamedEvent | str | Exception | None


@dataclass
class _Reader:
    """Reads events in a thread of its own; after a break it goes on from the last one it saw."""

    client: Client
    study: int
    items: queue.Queue[Item] = field(default_factory=queue.Queue)
    stopped: threading.Event = field(default_factory=threading.Event)
    last: int = 0

    def run(self) -> None:
        try:
            while not self.stopped.is_set():
                if self._stream():
                    break
                self.stopped.wait(_RETRY_SECONDS)
            self.items.put(None)
        except Refused as error:
            self.items.put(error)

    def _stream(self) -> bool:
        """Read until the connection ends; True when the study is at rest."""
        try:
            for event in self.client.events(self.study, self.last):
                self.last = event.id
                self.items.put(event)
                if self.stopped.is_set():
                    return True
            if self.client.study(self.study)["at_rest"]:
                return True
        except Unreachable:
            pass
        self.items.put("the service does not answer; asking again")
        return False


@contextlib.contextmanager
def _reading(client: Client, study: int) -> Iterator[_Reader]:
    reader = _Reader(client, study)
    threading.Thread(target=reader.run, name="events", daemon=True).start()
    try:
        yield reader
    finally:
        reader.stopped.set()


# --- a terminal


def _live(client: Client, study: int, snapshot: Snapshot, console: Console) -> None:
    fetched, pause, ended = time.monotonic(), _FETCH_SECONDS, False
    stale: set[str] = set()  # names of trials that changed; _ALL: many did; empty: the study did
    with _reading(client, study) as reader, Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(render(snapshot, datetime.now(UTC), console.size), refresh=True)
            if ended:
                return
            for item in _within(reader.items, 1 / _DRAWS_A_SECOND):
                if isinstance(item, StreamedEvent) and item.kind != "step":
                    stale.add(str(item.data.get("trial", _ALL if item.kind == "trials" else "")))
                ended = ended or item is None
                _note(snapshot, item)
            if ended or (stale and time.monotonic() - fetched > pause):
                began = time.monotonic()
                with contextlib.suppress(Unreachable):
                    _fetch(client, study, snapshot, stale)
                    stale.clear()
                fetched = time.monotonic()
                pause = max(_FETCH_SECONDS, 10 * (fetched - began))  # a large study is asked for less often


def _fetch(client: Client, study: int, snapshot: Snapshot, stale: set[str]) -> None:
    """The study, and of its trials those that changed; all of them where many did."""
    snapshot.study = client.study(study)
    names = stale - {""}
    if _ALL in names or len(names) > _SINGLY:
        snapshot.trials = client.trials(study)
    elif names:
        changed = {trial["name"]: trial for trial in client.trials(study, sorted(names))}
        snapshot.trials = [changed.get(trial["name"], trial) for trial in snapshot.trials]


def _within(items: queue.Queue[Item], seconds: float) -> Iterator[Item]:
    """What comes out of the queue during that time, or until its end."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            item = items.get(timeout=left)
        except queue.Empty:
            return
        yield item
        if item is None:
            return


def _note(snapshot: Snapshot, item: Item) -> None:
    """What the view knows from the stream alone. Raises what the reader could not mend."""
    if isinstance(item, Exception):
        raise item
    snapshot.trouble = item if isinstance(item, str) else ""
    if isinstance(item, StreamedEvent) and item.kind in ("note", "regression"):
        snapshot.note = item.data["text"]
    if isinstance(item, StreamedEvent) and item.kind == "step":
        for trial in (trial for trial in snapshot.trials if trial["name"] == item.data["trial"]):
            trial["sign"] = item.data
    if isinstance(item, StreamedEvent) and item.kind == "epoch":
        snapshot.epoch_ended[item.data["trial"]] = datetime.fromisoformat(item.data["time"])


def render(snapshot: Snapshot, now: datetime, size: ConsoleDimensions) -> RenderableType:
    """The whole view. Pure: `now` and the terminal's size decide the rest."""
    shown, left_out = _fitting(snapshot.trials, max(5, size.height - 8))
    bar = 20 if size.width >= 100 else 8
    grid = Table.grid(padding=(0, 2))
    for _ in range(3):
        grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column()  # the one column that gives way
    for trial in shown:
        grid.add_row(*trial_cells(trial, _pace(trial, snapshot.epoch_ended.get(trial["name"]), now), bar))
    lines: list[RenderableType] = [*header(snapshot, now), Text(), grid]
    if left_out:
        lines.append(Text(f"... and {left_out} more", style="dim"))
    return Group(*lines)


def header(snapshot: Snapshot, now: datetime) -> list[Text]:
    """The study in two or three lines: name and state, totals, MLflow."""
    study, counts = snapshot.study, snapshot.study["trials"]
    first = Text(f"study {study['id']}", style="bold")
    first.append(f"  {one_line(study['name'])}  ", style="default")
    first.append(study["state"], style=STYLES[study["state"]])
    if study["reason"]:
        first.append(f": {one_line(study['reason'])}", style="red")
    done = sum(counts.get(state, 0) for state in ("finished", "cached", "stopped"))
    told = [f"{done} of {sum(counts.values())} trials done"]
    told += [f"{counts[state]} {state}" for state in ("running", "cached", "stopped", "failed", "cancelled") if counts.get(state)]
    measured = [trial["state"] in {"finished", "cached"} for trial in snapshot.trials if trial["role"] == "measurement"]
    told += [f"{sum(measured)} of {len(measured)} measurements"] if measured else []
    told.append(span(_seconds(study["started"] or study["created"], study["finished"] or now)))
    lines = [first, Text(", ".join(told), style="dim")]
    if study.get("waits"):
        lines.append(Text(f"waits   {one_line(study['waits']).removeprefix('waits ')}", style="dim"))
    if study["mlflow"]:
        lines.append(Text(f"MLflow  {study['mlflow']}", style="dim"))
    if snapshot.note and not study["at_rest"] and not counts.get("running"):
        lines.append(Text(one_line(snapshot.note), style="dim"))
    if snapshot.trouble:
        lines.append(Text(snapshot.trouble, style="yellow"))
    return lines


@dataclass(frozen=True)
class Pace:
    """How fast a trial goes: seconds an epoch took, seconds since the last one ended."""

    epoch: float
    since: float


def trial_cells(trial: dict[str, Any], pace: Pace | None, width: int) -> list[RenderableType]:
    """One line: title, state, epoch bar, epochs, AP so far, time left (or taken, or why it failed). width: of the bar."""
    sign = under_way(trial)
    state, epochs = trial["state"], trial["epochs"] or (sign and sign["epochs"])
    bar: RenderableType = Text()
    if epochs and (trial["epoch"] or state == "running"):
        style = "green" if state in {"finished", "cached", "stopped"} else "cyan"
        bar = ProgressBar(total=epochs, completed=epochs_done(trial, pace), width=width, complete_style=style, finished_style=style)
    metrics = trial["metrics"] or trial["latest"] or {}
    return [
        Text(one_line(trial["title"])),
        Text(state, style=STYLES[state]),
        bar,
        Text(f"{trial['epoch']}/{epochs}" if epochs else ""),
        Text(f"AP {metrics['AP']:5.1f}" if "AP" in metrics else ""),
        remark(trial, pace),
    ]


def remark(trial: dict[str, Any], pace: Pace | None) -> Text:
    """What the end of a trial's line says, on one line."""
    text, style = _remark(trial, pace)
    return Text(one_line(text), style=style, no_wrap=True, overflow="ellipsis")


def _remark(trial: dict[str, Any], pace: Pace | None) -> tuple[str, str]:
    state = trial["state"]
    if state == "failed":
        return trial["reason"] or "", "red"
    if state == "cached":
        return "an equal trial was finished before", "dim"
    if state == "stopped":
        return "without promise", "dim"
    if state == "waiting":
        return "for what it measures" if trial["role"] == "measurement" else "for its teacher", "dim"
    if state == "running" and trial["role"] == "measurement":
        return "measures", "dim"
    if state == "running":
        left = seconds_left(trial, pace)
        time_left = "first epoch" if left is None else f"{span(left)} left" if left >= 1 else "any moment"
        return ", ".join([time_left, *step_words(under_way(trial))]), "dim"
    return span(trial["seconds"]) if state == "finished" else "", "dim"


def under_way(trial: dict[str, Any]) -> dict[str, Any] | None:
    """The last sign of life of a running trial inside the epoch that it is in."""
    sign: dict[str, Any] | None = trial.get("sign")
    return sign if sign and trial["state"] == "running" and sign["epoch"] > trial["epoch"] else None


def step_words(sign: dict[str, Any] | None) -> list[str]:
    """What a sign of life says, in words."""
    if sign is None:
        return []
    forms = {
        "loss": "loss {:.3g}",
        "lr": "lr {:.2g}",
        "images_per_second": "{:.3g} images/s",
        "data_share": "{:.0%} waiting for images",
        "memory": "{:.1f} GiB",
    }
    told = [form.format(sign["metrics"][name]) for name, form in forms.items() if name in sign["metrics"]]
    return [f"step {sign['step']}/{sign['steps']}", *told]


def epochs_done(trial: dict[str, Any], pace: Pace | None) -> float:
    """Epochs done with the share of the running one, which is guessed from the last one's time and never quite full."""
    done = float(trial["epoch"])
    if sign := under_way(trial):
        return float(done + 0.95 * sign["step"] / sign["steps"])
    if trial["state"] != "running" or pace is None or done >= trial["epochs"]:
        return done
    return done + min(pace.since / pace.epoch, 0.95)


def seconds_left(trial: dict[str, Any], pace: Pace | None) -> float | None:
    """Time until a running trial ends at the pace of its last epoch; None before the first one."""
    if pace is None:
        return None
    epochs = trial["epochs"] - trial["epoch"]
    return epochs * pace.epoch - min(pace.since, pace.epoch) if epochs else 0.0


def _pace(trial: dict[str, Any], ended: datetime | None, now: datetime) -> Pace | None:
    seconds = (trial["latest"] or {}).get("epoch_seconds")
    if not seconds or ended is None:
        return None
    return Pace(seconds, max(0.0, (now - ended).total_seconds()))


def _fitting(trials: list[dict[str, Any]], lines: int) -> tuple[list[dict[str, Any]], int]:
    """At most `lines` trials in their order: those that run or failed first, then the next ones, then the last ended."""
    if len(trials) <= lines:
        return trials, 0
    weight = {"running": 0, "failed": 1, "ready": 2, "finished": 3, "waiting": 4, "cached": 5, "stopped": 5, "cancelled": 5}
    ranked = sorted(range(len(trials)), key=lambda i: (weight[trials[i]["state"]], -i if trials[i]["state"] == "finished" else i))
    chosen = sorted(ranked[:lines])
    return [trials[i] for i in chosen], len(trials) - lines


# --- no terminal


def _plain(client: Client, study: int, snapshot: Snapshot, console: Console) -> None:
    titles = {trial["name"]: trial["title"] for trial in snapshot.trials}
    with _reading(client, study) as reader:
        while (item := reader.items.get()) is not None:
            trouble = snapshot.trouble
            _note(snapshot, item)
            line = event_line(item, titles) if isinstance(item, StreamedEvent) else snapshot.trouble if snapshot.trouble != trouble else ""
            if line:
                console.print(line, markup=False, highlight=False, soft_wrap=True)


def event_line(event: StreamedEvent, titles: dict[str, str]) -> str:
    """An event in a line: when, who, what. Empty for steps that mean nothing to a person."""
    told = _event(event, titles)
    return told and f"{datetime.fromisoformat(event.data['time']).astimezone():%H:%M:%S}  {one_line(told)}"


def _event(event: StreamedEvent, titles: dict[str, str]) -> str:
    data = event.data
    if event.kind in ("note", "regression"):
        return str(data["text"])
    if event.kind == "study":
        return f"study {data['state']}" + (f": {data['reason']}" if data["reason"] else "")
    if event.kind == "trials":
        return "" if data["state"] in {"ready", "waiting"} else f"{data['count']} trials: {data['state']}" + _why(data)
    title = titles.get(data["trial"], data["trial"])
    if event.kind == "step":
        return f"{title}: in epoch {data['epoch']}, " + ", ".join(step_words(data))
    if event.kind == "epoch":
        precision = f", AP {data['metrics']['AP']:.1f}" if "AP" in data["metrics"] else ""
        return f"{title}: epoch {data['epoch']}/{data['epochs']}{precision}"
    if data["state"] == "ready":
        return "" if data["before"] == "waiting" else f"{title}: to be tried again"
    return f"{title}: {data['state']}" + _why(data)


def _why(data: dict[str, Any]) -> str:
    return f", {data['reason']}" if data.get("reason") else ""


# --- words


def span(seconds: float | None) -> str:
    """A length of time: "42 s", "3:05", "2:03:05"."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _seconds(start: str, end: str | datetime) -> float:
    ended = end if isinstance(end, datetime) else datetime.fromisoformat(end)
    return (ended - datetime.fromisoformat(start)).total_seconds()
