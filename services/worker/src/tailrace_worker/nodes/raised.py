"""Describe exceptions of user code, whose classes may raise when they are shown."""

import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Final

from tailrace_worker.nodes.node import NodeFailedError

_MAX_TEXT_CHARACTERS: Final = 64 * 1024
_MAX_GROUP_DEPTH: Final = 5
_MAX_MEMBERS: Final = 20
_MAX_FRAMES: Final = 20


def is_a(error: BaseException, kind: type[BaseException]) -> bool:
    """Return whether an exception is of a class; ``isinstance`` would also ask the exception."""
    return issubclass(type(error), kind)


def class_name(error: BaseException) -> str:
    """Return the name of an exception's class, whose metaclass may have another idea of it."""
    return str(type.__dict__["__name__"].__get__(type(error)))


def describe(error: BaseException) -> str:
    """Return an exception in one line, with the members of a group."""
    return _describe(error, _MAX_GROUP_DEPTH)[:_MAX_TEXT_CHARACTERS]


def _describe(error: BaseException, depth: int) -> str:
    text = _text(error)
    if not is_a(error, NodeFailedError):
        text = f"{class_name(error)}: {text}" if text else class_name(error)
    if is_a(error, BaseExceptionGroup) and depth:
        members = members_of(error)
        named = [_describe(member, depth - 1) for member in members[:_MAX_MEMBERS]]
        if len(members) > _MAX_MEMBERS:
            named.append(f"{len(members) - _MAX_MEMBERS} more")
        text = f"{text}: {'; '.join(named)}"
    return text


def _text(error: BaseException) -> str:
    try:
        text = str(error)
        # A subclass of str may override the methods that are called later.
        return text if type(text) is str else str.__str__(text)[:]
    # The method belongs to the user, so that it may raise anything, too.
    except BaseException as raised:  # noqa: BLE001
        return f"(its message cannot be shown: {class_name(raised)})"


def explain(error: BaseException) -> str:
    """Return the traceback of an error of the user's code, or the detail that a node gave."""
    try:
        if is_a(error, NodeFailedError):
            return str(getattr(error, "detail", ""))[:_MAX_TEXT_CHARACTERS]
        raised_at = error.__traceback__
        while raised_at is not None and _is_engine(raised_at):
            raised_at = raised_at.tb_next
        lines = traceback.TracebackException(
            type(error), error, raised_at, limit=-_MAX_FRAMES, compact=True
        ).format()
        return "".join(lines).rstrip()[-_MAX_TEXT_CHARACTERS:]
    # The text of an exception, or of one that it was raised from, may raise anything.
    except BaseException:  # noqa: BLE001
        return ""


def _is_engine(entry: TracebackType) -> bool:
    return str(entry.tb_frame.f_globals.get("__name__", "")).startswith("tailrace_worker.engine.")


def is_retryable(error: BaseException) -> bool:
    """Return whether another attempt may succeed: unless all that was raised says otherwise."""
    return any(map(_is_retryable, _leaves(error)))


def _is_retryable(raised: BaseException) -> bool:
    if not is_a(raised, NodeFailedError):
        return True
    try:
        # A subclass may not call the constructor that sets the attribute.
        return bool(getattr(raised, "retryable", True))
    except BaseException:  # noqa: BLE001 - it may also make it a property
        return True


def members_of(group: BaseException) -> tuple[BaseException, ...]:
    """Return the exceptions of a group; a subclass may hide them."""
    members: tuple[BaseException, ...] = BaseExceptionGroup.exceptions.__get__(group)
    return members


def _leaves(error: BaseException) -> Iterator[BaseException]:
    pending = [error]
    while pending:
        raised = pending.pop()
        if is_a(raised, BaseExceptionGroup):
            pending.extend(members_of(raised))
        else:
            yield raised
