"""Read the newest messages of a subject first. JetStream itself only reads forward.

The newest messages are read as a window of sequences that ends at a known message. A window that
holds too few is followed by a larger one before it, and one that holds far too many is narrowed. So
a read costs about as many messages as it returns, wherever in the stream it begins.
"""

from typing import Final

from tailrace_shared.nats.catch_up import until_caught_up
from tailrace_shared.nats.jetstream import JetStream, StoredMessage

_PAGE_MESSAGES: Final = 256
_PAGE_BYTES: Final = 4 * 1024 * 1024
_GROWTH: Final = 8
_MAX_EXCESS: Final = 4


async def read_backwards(
    jetstream: JetStream,
    stream: str,
    pattern: str,
    limit: int,
    *,
    before: int | None = None,
    window: int | None = None,
) -> list[StoredMessage]:
    """Return the newest messages of a subject, newest first, as the stream's leader has them.

    Args:
        jetstream: the connection.
        stream: the stream.
        pattern: the subject; a wildcard should match few subjects.
        limit: the maximum number of messages.
        before: only messages before this sequence; None for the newest of all.
        window: how many sequences may hold ``limit`` messages, if the caller knows; by default it
            is estimated from the number of messages.

    Raises:
        UnavailableError: NATS did not answer, or no up-to-date replica did.
    """
    found: list[StoredMessage] = []
    high, above = await _end(jetstream, stream, pattern, before)
    if not high:
        return found
    window = window or await _window_for(jetstream, stream, pattern, limit)
    newest = high if before is None else 0
    while high > 0 and len(found) < limit:
        low = max(1, high - window + 1)
        request = {
            "seq": low,
            "next_by_subj": pattern,
            "batch": min(_PAGE_MESSAGES, window, limit + 1),
            "max_bytes": _PAGE_BYTES,
        }
        page, pending = await jetstream.batch(stream, request)
        matching = len(page) + pending - above
        wanted = limit - len(found)
        if matching > _MAX_EXCESS * max(wanted, _PAGE_MESSAGES) and window > wanted:
            window = max(wanted, window * 2 * wanted // matching)
            continue
        while pending and page[-1].sequence < high:
            more, pending = await jetstream.batch(stream, request | {"seq": page[-1].sequence + 1})
            if not more:
                break
            page += more
        page = [message for message in page if message.sequence <= high]
        if newest and not (page and page[-1].sequence == newest):
            # A replica that lags answered, or the newest message was deleted meanwhile.
            if not await _await_replica(jetstream, stream, pattern, newest):
                newest = 0
            # Another replica may answer the next read, so it is checked as well.
            continue
        newest = 0
        found += reversed(page)
        above += len(page)
        high, window = low - 1, window * _GROWTH
    return found[:limit]


async def _end(
    jetstream: JetStream, stream: str, pattern: str, before: int | None
) -> tuple[int, int]:
    """Return the last sequence to read, and how many matching messages lie above it."""
    if before is None:
        last = await jetstream.get_newest(stream, {"last_by_subj": pattern})
        if last is not None:
            return last.sequence, 0
        if pattern != ">":
            return 0, 0
        # JetStream looks at the last sequence only, and its message may have been purged.
        state = (await jetstream.api(f"STREAM.INFO.{stream}"))["state"]
        return (state["last_seq"] if state["messages"] else 0), 0
    request = {"seq": max(before, 1), "next_by_subj": pattern, "batch": 1}
    page, pending = await jetstream.batch(stream, request)
    return before - 1, len(page) + pending


async def _window_for(jetstream: JetStream, stream: str, pattern: str, limit: int) -> int:
    info = await jetstream.api(f"STREAM.INFO.{stream}", {"subjects_filter": pattern})
    state = info["state"]
    count = sum((state.get("subjects") or {}).values())
    sequences = state["last_seq"] - state["first_seq"] + 1
    # A fifth more than on average, and a few for small pages.
    return int(1.2 * (limit + 4) * max(sequences, 1) / max(count, 1)) + 1


async def _await_replica(jetstream: JetStream, stream: str, pattern: str, newest: int) -> bool:
    """Wait for a replica that has reached a message; return whether the message still exists."""

    async def exists() -> bool | None:
        request = {"seq": newest, "next_by_subj": pattern}
        if (message := await jetstream.get(stream, request)) is not None:
            return message.sequence == newest
        return False if await jetstream.get_newest(stream, request) is None else None

    found = await until_caught_up(exists, lambda known: known is not None, f"stream {stream}")
    return bool(found)
