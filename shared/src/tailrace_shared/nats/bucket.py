"""Key-value buckets (ADR-8): streams whose subjects are keys.

nats-py's own KeyValue reads one key at a time and raises nats-py's errors. A run list needs a
hundred keys in one round trip, and callers need one family of errors.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from tailrace_shared.errors import UnavailableError, WrongLastSequenceError
from tailrace_shared.nats.jetstream import EXPECTED_LAST_SUBJECT_SEQUENCE, JetStream, StoredMessage
from tailrace_shared.nats.read_backwards import read_backwards

_OPERATION: Final = "KV-Operation"
_AS_OF: Final = "Tailrace-As-Of"
_KEYS_PER_READ: Final = 1000  # the server's limit is 1,024 subjects


class BucketEntry(NamedTuple):
    """A value, and the revision (stream sequence) that wrote it."""

    key: str
    value: bytes
    revision: int


class Revision(NamedTuple):
    """A value that a key has had.

    Attributes:
        time: when it was written, by the clock of NATS, in seconds since the epoch.
    """

    entry: BucketEntry
    time: float
    headers: Mapping[str, str]


class Bucket:
    """One bucket. Keys are subject tokens joined by dots; callers build them from validated ids."""

    def __init__(self, jetstream: JetStream, name: str) -> None:
        self._jetstream = jetstream
        self._stream = f"KV_{name}"
        self._prefix = f"$KV.{name}."

    async def put(
        self,
        key: str,
        value: bytes,
        headers: dict[str, str] | None = None,
        *,
        as_of: float | None = None,
    ) -> int:
        """Set the value of a key; return the revision.

        Args:
            key: the key.
            value: its new value.
            headers: headers of the message.
            as_of: the write time that :meth:`scan` yields, in seconds since the epoch, for a value
                that is written anew; by default the time of the write by the clock of NATS.
        """
        if as_of is not None:
            headers = {**(headers or {}), _AS_OF: repr(as_of)}
        return await self._jetstream.publish(self._prefix + key, value, headers)

    async def create(self, key: str, value: bytes) -> int | None:
        """Set the value of a key that has none; return the revision, or None if it has one."""
        last = 0
        while True:
            fence = {EXPECTED_LAST_SUBJECT_SEQUENCE: str(last)}
            try:
                return await self._jetstream.publish(self._prefix + key, value, fence)
            except WrongLastSequenceError as error:
                # A deleted key leaves a marker behind; a value that replaces it is a creation, too.
                marker = await self._jetstream.get_newest(
                    self._stream, {"last_by_subj": self._prefix + key}
                )
                if marker is None and error.last == last:
                    raise UnavailableError(
                        f"the leader of {self._stream} contradicts itself"
                    ) from None
                if marker is None or not _is_deleted(marker) or marker.sequence == last:
                    return None
                last = marker.sequence

    async def replace(self, key: str, value: bytes, revision: int) -> int | None:
        """Set the value of a key by compare-and-set.

        Args:
            revision: the newest revision that the caller has seen; 0 if the key never had one.

        Returns:
            The new revision, or None if another writer was first.
        """
        fence = {EXPECTED_LAST_SUBJECT_SEQUENCE: str(revision)}
        try:
            return await self._jetstream.publish(self._prefix + key, value, fence)
        except WrongLastSequenceError:
            return None

    async def edge(self) -> tuple[int, float]:
        """Return the newest revision, and the time of NATS in seconds since the epoch.

        Raises:
            JetStreamError: JetStream refused.
            UnavailableError: NATS did not answer.
        """
        info = await self._jetstream.api(f"STREAM.INFO.{self._stream}")
        return info["state"]["last_seq"], datetime.fromisoformat(info["ts"]).timestamp()

    async def count(self, pattern: str) -> int:
        """Return the number of entries that match a pattern, from any replica.

        Raises:
            UnavailableError: NATS did not answer.
        """
        request = {"batch": 1, "seq": 1, "next_by_subj": self._prefix + pattern}
        first, more = await self._jetstream.batch(self._stream, request)
        return len(first) + more

    async def purge(self, key: str, revision: int | None = None) -> bool:
        """Remove a key and its history; return whether there was anything to remove.

        Unlike :meth:`delete` it leaves no marker, and costs no more.

        Args:
            revision: keep what was written after this revision.
        """
        request: dict[str, str | int] = {"filter": self._prefix + key}
        if revision is not None:
            request["seq"] = revision + 1
        answer = await self._jetstream.api(f"STREAM.PURGE.{self._stream}", request)
        return bool(answer["purged"])

    async def delete(self, key: str) -> None:
        """Remove a key's value; its earlier revisions stay readable by revision."""
        await self._jetstream.publish(self._prefix + key, b"", {_OPERATION: "DEL"})

    async def get(self, key: str) -> BucketEntry | None:
        message = await self._last(key)
        return None if message is None else self._entry(message)

    async def get_newest(self, key: str, *, is_optional: bool = False) -> BucketEntry | None:
        """Return the value of a key from the bucket's leader, or None.

        Args:
            key: the key.
            is_optional: whether the bucket may not exist; then that is an error at once.
        """
        request = {"last_by_subj": self._prefix + key}
        message = await self._jetstream.get_newest(self._stream, request, is_optional=is_optional)
        return None if message is None else self._entry(message)

    async def scan(
        self, pattern: str, revision: int = 1
    ) -> AsyncIterator[tuple[BucketEntry, float]]:
        """Read the values of all keys that match a pattern, oldest first, each with its write time.

        For buckets without a history: one with a history yields earlier values, too.

        Args:
            pattern: subject wildcards are allowed.
            revision: skip values that were written before this one.
        """
        async for message in self._jetstream.read(self._stream, self._subject(pattern), revision):
            if entry := self._entry(message):
                as_of = message.headers.get(_AS_OF)
                yield entry, message.time if as_of is None else float(as_of)

    async def newest_first(
        self, pattern: str, limit: int, before: int | None = None
    ) -> list[BucketEntry]:
        """Return the values of keys that match a pattern, the one written last first.

        Args:
            pattern: subject wildcards. Matching them costs the server a little for every key.
            limit: the maximum number of values.
            before: only values that were written before this revision.

        Raises:
            UnavailableError: NATS did not answer, or no up-to-date replica did.
        """
        messages = await read_backwards(
            self._jetstream,
            self._stream,
            self._subject(pattern),
            limit,
            before=before,
            window=4 * limit,
        )
        return [entry for message in messages if (entry := self._entry(message))]

    async def revisions(self, key: str, limit: int, before: int | None = None) -> list[Revision]:
        """Return the values that a key has and has had, as far as they are kept, newest first.

        Args:
            key: the key.
            limit: the maximum number of values. Markers of deletions count.
            before: only revisions before this one.

        Raises:
            UnavailableError: NATS did not answer, or no up-to-date replica did.
        """
        subject = self._prefix + key
        messages = await read_backwards(
            self._jetstream, self._stream, subject, limit, before=before
        )
        return [
            Revision(entry, message.time, message.headers)
            for message in messages
            if (entry := self._entry(message))
        ]

    async def scan_from(self, pattern: str, revision: int) -> AsyncIterator[BucketEntry]:
        """Read the values of all keys that match a pattern and were written since a revision."""
        async for message in self._jetstream.read(self._stream, self._subject(pattern), revision):
            if entry := self._entry(message):
                yield entry

    async def get_revision(self, key: str, revision: int) -> BucketEntry | None:
        if revision < 1:
            return None
        request = {"seq": revision}
        message = await self._jetstream.get(self._stream, request)
        if message is None:
            message = await self._jetstream.get_newest(self._stream, request)
        if message is None or message.subject != self._prefix + key:
            return None
        return self._entry(message)

    async def keys(self, pattern: str) -> list[str]:
        """Return the keys that match ``pattern`` (subject wildcards), including deleted ones."""
        names: list[str] = []
        while True:
            info = await self._jetstream.api(
                f"STREAM.INFO.{self._stream}",
                {"subjects_filter": self._prefix + pattern, "offset": len(names)},
            )
            page = info["state"].get("subjects") or {}
            names.extend(subject.removeprefix(self._prefix) for subject in page)
            if not page or len(names) >= info.get("total", 0):
                return names

    async def get_many(self, keys: Iterable[str]) -> list[BucketEntry]:
        """Return the values of those ``keys`` (wildcards allowed) that have one, unordered."""
        entries: list[BucketEntry] = []
        for some in _batched(keys, _KEYS_PER_READ):
            sequence = 1
            while True:
                page, pending = await self._jetstream.batch(
                    self._stream,
                    {
                        "multi_last": [self._prefix + key for key in some],
                        "batch": _KEYS_PER_READ,
                        "seq": sequence,
                    },
                )
                entries.extend(entry for message in page if (entry := self._entry(message)))
                if not page or not pending:
                    break
                sequence = page[-1].sequence + 1
        return entries

    async def get_many_newest(self, keys: Collection[str]) -> list[BucketEntry]:
        """Return the values of those ``keys`` that have one, unordered and not older than the call.

        Costs a few messages, however many keys there are.

        Raises:
            UnavailableError: NATS did not answer, or no leader or replica that is up to date did.
        """
        info = await self._jetstream.leader_info(self._stream)
        # A replica reports how far it is only if a subject that is asked for has a message.
        anchor = await self._jetstream.get_newest(
            self._stream, {"last_by_subj": self._prefix + ">"}
        )
        if anchor is None:
            return []
        wanted = {self._prefix + key for key in keys}
        entries: list[BucketEntry] = []
        for some in _batched(wanted, _KEYS_PER_READ - 1):
            found = await self._jetstream.last_of(
                self._stream, [anchor.subject, *some], info["state"]["last_seq"]
            )
            messages = (found[subject] for subject in some if subject in found)
            entries.extend(entry for message in messages if (entry := self._entry(message)))
        return entries

    async def _last(self, key: str) -> StoredMessage | None:
        return await self._jetstream.get(self._stream, {"last_by_subj": self._prefix + key})

    async def read_all(
        self, pattern: str, is_wanted: Callable[[str], bool] = lambda _key: True
    ) -> list[BucketEntry]:
        """Return the values of all keys that match a pattern and a predicate, unordered.

        The result includes everything that was written before the call.
        """
        keys = [key for key in await self.keys(pattern) if is_wanted(key)]
        if not keys:
            return []
        subjects = [self._prefix + key for key in keys]
        info = await self._jetstream.api(f"STREAM.INFO.{self._stream}")
        try:
            found = await self._jetstream.last_of(self._stream, subjects, info["state"]["last_seq"])
        except UnavailableError:
            # If all keys were removed meanwhile, no replica reports how far it is.
            if any([await self.get_newest(key) for key in keys]):
                raise
            return []
        return [entry for message in found.values() if (entry := self._entry(message))]

    def _subject(self, pattern: str) -> str:
        # Of the same messages, the server counts those of ">" at once, but compares any other
        # pattern with every key: with a million keys a read of a page then takes seconds.
        return pattern if pattern == ">" else self._prefix + pattern

    def _entry(self, message: StoredMessage) -> BucketEntry | None:
        if _is_deleted(message):
            return None
        return BucketEntry(
            message.subject.removeprefix(self._prefix), message.data, message.sequence
        )


def _is_deleted(message: StoredMessage) -> bool:
    return _OPERATION in message.headers


def _batched(items: Iterable[str], size: int) -> Iterable[list[str]]:
    items = list(items)
    return (items[start : start + size] for start in range(0, len(items), size))
