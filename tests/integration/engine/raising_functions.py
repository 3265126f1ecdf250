"""Nodes of every kind whose functions raise, or return, anything that Python lets them.

The first attempts of a step misbehave as its case says; the attempt after them returns its number.
"""

import asyncio
import concurrent.futures
import datetime as dt
import sys
from collections.abc import Callable, Iterator
from typing import Any

from dramatiq.middleware import Shutdown, TimeLimitExceeded

from tailrace_shared.errors import JetStreamError, NewerLogError, UnavailableError
from tailrace_worker.nodes import NodeContext, NodeFailedError, node


class PanicException(BaseException):
    """The panic of an extension in Rust."""


class _Hostile(type):
    """A class that raises when its name is asked for."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise PanicException("name")


class Nameless(Exception, metaclass=_Hostile):  # noqa: N818
    """An exception without a name."""


class Silent(Exception):  # noqa: N818
    """An exception whose text raises."""

    def __str__(self) -> str:
        raise self.args[0]

    __repr__ = __str__


class Unpicklable(Exception):  # noqa: N818
    """An exception that raises when it is copied or compared."""

    def __reduce__(self) -> str:
        raise PanicException("reduce")

    def __eq__(self, _other: object) -> bool:
        raise PanicException("eq")

    def __hash__(self) -> int:
        raise PanicException("hash")


class Closed(Exception):  # noqa: N818
    """An exception without attributes."""

    def __getattribute__(self, name: str) -> Any:
        raise PanicException(name)


class Notes(Exception):  # noqa: N818
    """An exception whose notes are none."""

    __notes__ = property(lambda _self: sys.exit("notes"))


class Group(BaseExceptionGroup[BaseException]):
    """A group without members."""

    exceptions = property(lambda _self: sys.exit("members"))


class Text(str):
    """A text that cannot be cut."""

    __slots__ = ()

    def __getitem__(self, _key: Any) -> str:
        raise PanicException("cut")


class Odd(Exception):  # noqa: N818
    """An exception whose text is of a class of its own."""

    def __str__(self) -> str:
        return Text("odd")


class Zone(dt.tzinfo):
    """A time zone that raises when a time is encoded."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def utcoffset(self, _time: dt.datetime | None) -> dt.timedelta:
        """Raise."""
        raise self._error

    def dst(self, _time: dt.datetime | None) -> None:
        """Know no summer."""

    def tzname(self, _time: dt.datetime | None) -> None:
        """Have no name."""


def _time(error: BaseException) -> dt.datetime:
    return dt.datetime(2024, 1, 1, tzinfo=Zone(error))


def _cyclic() -> BaseException:
    error, other = ValueError("a"), KeyError("b")
    error.__cause__, other.__cause__ = other, error
    error.__context__, other.__context__ = other, error
    return error


def _deep() -> BaseException:
    error: BaseException = ValueError("innermost")
    for _ in range(3000):
        outer = ValueError("outer")
        outer.__cause__ = error
        error = outer
    return error


def _nested_group() -> BaseException:
    error: BaseException = ValueError("innermost")
    for _ in range(300):
        error = BaseExceptionGroup("group", [error, PanicException("beside")])
    return error


def _syntax_error() -> BaseException:
    error = SyntaxError("odd")
    error.filename, error.lineno, error.offset, error.text = object(), "x", [], 5  # type: ignore[assignment]
    return error


def _recurse() -> int:
    return _recurse() + 1


def _generator() -> Iterator[int]:
    yield 1
    raise StopIteration  # noqa: PLR1708 - what is tested


RAISED: dict[str, Callable[[], BaseException]] = {
    **{
        kind.__name__: kind
        for kind in (
            *(SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration),
            *(MemoryError, RecursionError, asyncio.CancelledError, asyncio.InvalidStateError),
            *(concurrent.futures.BrokenExecutor, TimeoutError, PanicException, Shutdown),
            *(TimeLimitExceeded, Closed, Notes, Odd, Unpicklable, EOFError),
        )
    },
    "Nameless": Nameless,
    "futures.CancelledError": concurrent.futures.CancelledError,
    "JetStreamError": lambda: JetStreamError(10158, "mine"),
    "UnavailableError": lambda: UnavailableError("mine"),
    "NewerLogError": lambda: NewerLogError("mine"),
    "NodeFailedError": lambda: NodeFailedError("mine", detail="\ud800" * 10),
    "group": lambda: BaseExceptionGroup("group", [PanicException("a"), ValueError("b")]),
    "nested group": _nested_group,
    "closed group": lambda: Group("group", [ValueError("a")]),
    "silent": lambda: Silent(ValueError("str")),
    "silent exit": lambda: Silent(SystemExit(5)),
    "silent panic": lambda: Silent(PanicException("str")),
    "silent member": lambda: BaseExceptionGroup("group", [Silent(SystemExit(5))]),
    "silent cause": lambda: _caused(ValueError("a"), Silent(SystemExit(5))),
    "cyclic": _cyclic,
    "deep": _deep,
    "syntax": _syntax_error,
    "surrogate": lambda: ValueError("\udcff" * 5000),
    "huge": lambda: ValueError("x" * 5_000_000),
    "no text": lambda: ValueError(object()),
    "exit with an object": lambda: SystemExit(object()),
}


def _caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def _raise(error: BaseException) -> Any:
    raise error


def _in_finally() -> None:
    try:
        raise SystemExit
    finally:
        raise PanicException


DONE: dict[str, Callable[[], Any]] = {
    **{name: lambda make=make: _raise(make()) for name, make in RAISED.items()},  # type: ignore[misc]
    "recursion": _recurse,
    "generator": lambda: list(_generator()),
    "raise in finally": _in_finally,
    "exit": sys.exit,
    "result with a panic": lambda: _time(PanicException("field")),
    "result with an exit": lambda: _time(SystemExit(5)),
}
"""The cases: a function that raises, or whose result raises when it is encoded."""


async def _sub_task(ctx: NodeContext) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.sleep(60))
        raise PanicException(ctx.node_id)


async def _cancel_itself(_ctx: NodeContext) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def _awaits_cancelled(_ctx: NodeContext) -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


async def _exit_in_a_task(_ctx: NodeContext) -> None:
    await asyncio.create_task(_exits())


async def _exits() -> None:
    sys.exit(5)


async def _interrupted_timeout(_ctx: NodeContext) -> None:
    async with asyncio.timeout(0.001):
        await asyncio.sleep(60)


ASYNC: dict[str, Callable[[NodeContext], Any]] = {
    "task group": _sub_task,
    "cancels itself": _cancel_itself,
    "awaits a cancelled task": _awaits_cancelled,
    "exit in a task": _exit_in_a_task,
    "timeout of its own": _interrupted_timeout,
}
"""Further cases of coroutine functions."""


def _act(ctx: NodeContext, case: str, failures: int) -> Any:
    return DONE[case]() if ctx.attempt <= failures else ctx.attempt


async def _act_async(ctx: NodeContext, case: str, failures: int, *, late: bool = False) -> Any:
    if late:
        await asyncio.sleep(0.001)
    if case in ASYNC and ctx.attempt <= failures:
        return await ASYNC[case](ctx)
    return _act(ctx, case, failures)


@node("raise.thread")
def in_a_thread(ctx: NodeContext, case: str, failures: int) -> Any:
    """Act in a thread."""
    return _act(ctx, case, failures)


@node("raise.instant", instant=True)
def instantly(ctx: NodeContext, case: str, failures: int) -> Any:
    """Act inside a commit."""
    return _act(ctx, case, failures)


@node("raise.before")
async def before_an_await(ctx: NodeContext, case: str, failures: int) -> Any:
    """Act on the loop, before anything is awaited."""
    return await _act_async(ctx, case, failures)


@node("raise.after")
async def after_an_await(ctx: NodeContext, case: str, failures: int) -> Any:
    """Act on the loop, later."""
    return await _act_async(ctx, case, failures, late=True)


@node("raise.actor", actor=True)
def in_an_actor(ctx: NodeContext, case: str, failures: int) -> Any:
    """Act in Dramatiq's thread."""
    return _act(ctx, case, failures)


@node("raise.async_actor", actor=True)
async def in_an_async_actor(ctx: NodeContext, case: str, failures: int) -> Any:
    """Act on the loop, for a message."""
    return await _act_async(ctx, case, failures, late=True)


KINDS = {
    "thread": False,
    "instant": False,
    "before": True,
    "after": True,
    "actor": False,
    "async_actor": True,
}
"""The kinds of nodes, and whether their functions are coroutine functions."""
