"""Requests without a connection: a call is written once, as the steps it takes, and either blocks or is awaited, as its object does.

    @call
    def study(self, study: int) -> Steps[dict[str, Any]]:
        return (yield Request("GET", f"/v1/studies/{study}")).json()

A method of a `Blocking` object gives the result, the same method of an `Awaiting` one an awaitable of it.
"""

import asyncio
import functools
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

import httpx

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """To be sent; the answer comes back, or httpx.HTTPError is raised where it stands. options: those of httpx."""

    method: str
    path: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pause:
    """Nothing for so many seconds."""

    seconds: float


Steps = Generator[Request | Pause, Any, T]


class Blocking(ABC):
    """Its calls give results."""

    @abstractmethod
    def run(self, steps: Steps[T]) -> T:
        """What the steps come to."""


class Awaiting(ABC):
    """Its calls are awaited."""

    @abstractmethod
    async def run(self, steps: Steps[T]) -> T:
        """What the steps come to."""


class call(Generic[P, T]):  # noqa: N801
    """A method that is written as steps. `steps` gives them without a run, for other calls to take."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Steps[T]]) -> None:
        self.steps = steps
        self.__doc__ = steps.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> "call[P, T]": ...
    @overload
    def __get__(self, instance: Blocking, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: Awaiting, owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self

        @functools.wraps(self.steps)
        def called(*args: P.args, **kwargs: P.kwargs) -> Any:
            return instance.run(self.steps(instance, *args, **kwargs))

        return called


def run_blocking(steps: Steps[T], http: httpx.Client) -> T:
    """The steps, one after the other."""
    turn: Callable[[], Request | Pause] = functools.partial(next, steps)
    while True:
        try:
            wanted = turn()
        except StopIteration as done:
            result: T = done.value
            return result
        try:
            if isinstance(wanted, Pause):
                time.sleep(wanted.seconds)
                turn = functools.partial(next, steps)
            else:
                turn = functools.partial(steps.send, http.request(wanted.method, wanted.path, **wanted.options))
        except httpx.HTTPError as error:
            turn = functools.partial(steps.throw, error)


async def run_awaiting(steps: Steps[T], http: httpx.AsyncClient) -> T:
    """The same for `await`."""
    turn: Callable[[], Request | Pause] = functools.partial(next, steps)
    while True:
        try:
            wanted = turn()
        except StopIteration as done:
            result: T = done.value
            return result
        try:
            if isinstance(wanted, Pause):
                await asyncio.sleep(wanted.seconds)
                turn = functools.partial(next, steps)
            else:
                turn = functools.partial(steps.send, await http.request(wanted.method, wanted.path, **wanted.options))
        except httpx.HTTPError as error:
            turn = functools.partial(steps.throw, error)
