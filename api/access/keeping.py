"""What the service does for its tokens once a minute: last uses are written down, and passes that have expired go."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from orchestrator.access.tokens import Tokens

_SECONDS = 60.0
_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def keeping(tokens: Tokens) -> AsyncIterator[None]:
    """Does it as long as the service lives, and at its end."""
    task = asyncio.create_task(_every_minute(tokens))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await run_in_threadpool(_keep, tokens)


async def _every_minute(tokens: Tokens) -> None:
    while True:
        await asyncio.sleep(_SECONDS)
        await run_in_threadpool(_keep, tokens)


def _keep(tokens: Tokens) -> None:
    try:
        tokens.note_uses()
        tokens.forget_expired()
    except SQLAlchemyError as error:  # the next minute tries again; what is lost is when a token was used last
        _log.warning("last uses of tokens are not written: %s", error)
