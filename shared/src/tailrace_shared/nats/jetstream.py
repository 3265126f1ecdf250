"""The JetStream operations that Tailrace uses, with Tailrace's errors.

nats-py speaks the protocol. This module adds what nats-py lacks: raw stream requests (for new
server settings), publishes with a fence, and Direct Get in pages (ADR-31).
"""

import asyncio
import base64
import random
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
import nats
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from tailrace_shared.errors import (
    JetStreamError,
    MessageTooLargeError,
    NatsUnreachableError,
    StartupError,
    StoreFailedError,
    StoreFullError,
    TemporarilyUnavailableError,
    UnavailableError,
    WrongLastSequenceError,
)
from tailrace_shared.nats.catch_up import until_caught_up
from tailrace_shared.nats.connection.client import PERMISSION_ERROR, NatsClient, NatsRefusedError
from tailrace_shared.nats.connection.credentials import NatsCredentials
from tailrace_shared.nats.leadership import has_quorum, is_sole
from tailrace_shared.nats.nats_requests import (
    OnReply,
    RequestMultiplexer,
    fail_pending,
    multiplexer_of,
)
from tailrace_shared.nats.startup import StartupLimit
from tailrace_shared.nats.store_failures import CANNOT_STORE, is_full, is_limit, store_record_of
from tailrace_shared.process.log_throttle import LogThrottle
from tailrace_shared.settings import CommonSettings

OLDEST_SERVER: Final = (2, 14)
EXPECTED_LAST_SUBJECT_SEQUENCE: Final = "Nats-Expected-Last-Subject-Sequence"
MESSAGE_ID: Final = "Nats-Msg-Id"

_WRONG_LAST_SEQUENCE: Final = {10071, 10164}
STREAM_NAME_IN_USE: Final = 10058
STREAM_NOT_FOUND: Final = 10059
_NO_MESSAGE: Final = 10037
# A message that is to be deleted does not exist.
_NOT_DELETED: Final = {10037, 10057}
# Answers that mean "send it again": a new cluster has too few peers yet (10005), no leader is
# elected yet (10008, 10009), a leader of several replicas still stores a message with the same id
# (10158), or its queue of publishes is full (10167). See also ``store_failures``.
_TEMPORARILY_UNAVAILABLE: Final = {10005, 10008, 10009, 10158, 10167}
_REQUEST_TIMEOUT_S: Final = 5.0
# Requests that change nothing, or the same if they are made twice.
_REPEATABLE: Final = (
    *("INFO", "STREAM.INFO.", "STREAM.MSG.GET.", "CONSUMER.INFO.", "CONSUMER.LIST."),
)
_TEMPORARY_PAUSE_S: Final = 0.2
# A publish is sent again each second meanwhile.
_PUBLISH_TIMEOUT_S: Final = 3.0

# A server that is frozen, or behind a network that drops packets, is noticed by missing answers to
# pings, within ``(_MAX_PINGS + 1) * _PING_INTERVAL_S`` seconds.
_PING_INTERVAL_S: Final = 1.5
_MAX_PINGS: Final = 2
_CONNECT_TIMEOUT_S: Final = 2
_RECONNECT_WAIT_S: Final = 1
# The most that a message's headers take. They count towards the server's payload limit.
_MAX_HEADER_BYTES: Final = 1024
_PAGE_MESSAGES: Final = 256
_PAGE_BYTES: Final = 4 * 1024 * 1024
_SUBJECTS_PER_READ: Final = 1000  # the server's limit is 1,024
# The leader of a cluster answers for streams that it does not know yet, besides their leaders.
_UNKNOWN_PAUSES_S: Final = (0.05, 0.2, 0.5, 1.25)
# A subject on which no stream has messages: no id contains the character.
_NO_SUBJECT: Final = "~"

_log = structlog.get_logger(__name__)


class _ApiError(msgspec.Struct):
    code: int
    err_code: int = 0
    description: str = ""


class _PubAck(msgspec.Struct):
    error: _ApiError | None = None
    seq: int = 0
    duplicate: bool = False


class StoredMessage(NamedTuple):
    """One message of a stream.

    Attributes:
        timestamp: when the stream's leader stored it (RFC 3339).
    """

    sequence: int
    subject: str
    data: bytes
    headers: dict[str, str]
    timestamp: str

    @property
    def time(self) -> float:
        """When the stream's leader stored it, in seconds since the epoch."""
        return datetime.fromisoformat(self.timestamp).timestamp()


class Batch(NamedTuple):
    """The answer to a Direct Get of several messages.

    Attributes:
        pending: how many more messages match.
        up_to: for a ``multi_last`` request the last sequence that the answering replica has; None
            if no message matches.
    """

    messages: list[StoredMessage]
    pending: int
    up_to: int | None


_decode_ack = msgspec.json.Decoder(_PubAck).decode


async def connect(
    settings: CommonSettings,
    name: str,
    limit: StartupLimit | None = None,
    *,
    read_interval: float = 0.0,
    **options: Any,
) -> NatsClient:
    """Connect to NATS and check its version and JetStream; wait for both within a time limit.

    ``options`` are passed to nats-py's ``Client.connect``.

    Args:
        settings: the servers; the time limit, unless ``limit`` is given.
        name: the name of the connection, for operators of NATS.
        limit: the time limit of the start that this is a part of.
        read_interval: seconds between two reads while nothing is requested; 0 reads at once.
        options: further options of nats-py's ``Client.connect``.

    Raises:
        StartupError: NATS is unreachable or too old, refuses the credentials, or has JetStream off.
    """
    credentials = NatsCredentials(settings)
    limit = limit or StartupLimit(settings.nats_connect_timeout)
    last_error: Exception | None = None
    not_permitted = LogThrottle()
    report = options.pop("error_cb", None)
    on_disconnect = options.pop("disconnected_cb", None)

    async def remember(error: Exception) -> None:
        nonlocal last_error
        last_error = error
        if not client.is_connected:
            limit.note(error)
        elif report is None and PERMISSION_ERROR in str(error).lower() and not_permitted.is_due():
            _log.warning("NATS does not permit a subject", error=str(error))
        if report is not None:
            await report(error)

    async def disconnected() -> None:
        fail_pending(client)
        if on_disconnect is not None:
            await on_disconnect()

    client = NatsClient(credentials, read_interval)
    try:
        async with asyncio.timeout(limit.left):
            await client.connect(
                **{
                    "servers": _shuffled(credentials.servers),
                    **credentials.options(),
                    # After a failure the next server is tried first, not the one that failed.
                    "dont_randomize": True,
                    "name": name,
                    "error_cb": remember,
                    "disconnected_cb": disconnected,
                    # A service outlives its NATS: after the first connect it reconnects for ever.
                    "max_reconnect_attempts": -1,
                    "reconnect_time_wait": _RECONNECT_WAIT_S,
                    "connect_timeout": _CONNECT_TIMEOUT_S,
                    "ping_interval": _PING_INTERVAL_S,
                    "max_outstanding_pings": _MAX_PINGS,
                    **options,
                }
            )
    except NatsRefusedError:
        await client.close()
        raise
    except (TimeoutError, OSError, ValueError, nats.errors.Error) as error:
        # A connect that timed out hides why its attempts failed.
        reason = last_error if isinstance(error, TimeoutError) and last_error else error
        raise NatsUnreachableError(
            f"cannot reach NATS at {credentials.shown_servers}: "
            f"{str(reason) or 'no answer'}. "
            "Start it, or set NATS_URL"
        ) from None
    try:
        _check_version(client)
        await limit.retry(lambda: _check_jetstream(client))
    except StartupError:
        await client.close()
        raise
    return client


def _shuffled(servers: list[str]) -> list[str]:
    return random.sample(servers, len(servers))


def _check_version(client: Client) -> None:
    version = client.connected_server_version
    if (version.major, version.minor) < OLDEST_SERVER:
        raise StartupError(
            f"NATS {version.major}.{version.minor}.{version.patch} is too old: "
            f"Tailrace needs {'.'.join(map(str, OLDEST_SERVER))} or later"
        )


async def _check_jetstream(client: Client) -> None:
    try:
        await JetStream(client).api("INFO")
    except UnavailableError:
        # In a cluster other servers may have JetStream on, and may not be ready yet.
        info = client._server_info  # noqa: SLF001 - nats-py does not offer it
        if info.get("jetstream") or info.get("cluster"):
            raise
        raise StartupError(
            "this NATS has JetStream off: start nats-server with -js (or enable it for the account)"
        ) from None


class JetStream:
    """Requests to JetStream over one connection."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._requests = multiplexer_of(client, _REQUEST_TIMEOUT_S)
        self._publishes = multiplexer_of(client, _PUBLISH_TIMEOUT_S)
        self._record = store_record_of(client)

    async def api(self, action: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request to ``$JS.API.<action>`` and return the answer.

        One that only reads is repeated for five seconds while JetStream says that it cannot serve:
        a server does so that was frozen or has just started, until it knows its cluster.

        Raises:
            JetStreamError: JetStream refused.
            TemporarilyUnavailableError: JetStream cannot serve now.
            UnavailableError: a request had no answer within five seconds, so after ten in all.
        """
        payload = msgspec.json.encode(body) if body else b""
        repeatable = action.startswith(_REPEATABLE)
        given_up_at = time.monotonic() + _REQUEST_TIMEOUT_S
        while True:
            message = await _answer(
                self._requests, f"$JS.API.{action}", payload, is_repeatable=repeatable
            )
            answer: dict[str, Any] = msgspec.json.decode(message.data)
            if "error" not in answer:
                return answer
            error = msgspec.convert(answer["error"], _ApiError)
            may_repeat = repeatable and error.err_code in _TEMPORARILY_UNAVAILABLE
            if not may_repeat or time.monotonic() > given_up_at:
                _raise(error)
            await asyncio.sleep(_TEMPORARY_PAUSE_S)

    async def publish(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None
    ) -> int:
        """Store a message and return its stream sequence.

        It is sent again each second without an answer, so it may be stored twice.

        Raises:
            WrongLastSequenceError: the fence in the headers did not hold.
            JetStreamError: JetStream refused for another reason.
            MessageTooLargeError: it exceeds the server's payload limit; a retry is useless.
            TemporarilyUnavailableError: JetStream asks for the message again.
            StoreFailedError: JetStream cannot store now.
            UnavailableError: no acknowledgement; the message may or may not be stored.
        """
        # NATS would not reply, but close the connection, which other requests share.
        if len(payload) + _MAX_HEADER_BYTES > self.client.max_payload:
            raise MessageTooLargeError(
                f"a message of {len(payload)} bytes on {subject}: "
                f"this NATS takes {self.client.max_payload - _MAX_HEADER_BYTES}"
            )
        try:
            message = await _answer(self._publishes, subject, payload, headers, is_repeatable=True)
            sequence = stored_sequence(message.data)
        except UnavailableError as error:
            self._record.note_failure(subject, error)
            raise
        self._record.note_stored()
        return sequence

    async def get(self, stream: str, request: dict[str, Any]) -> StoredMessage | None:
        """Read one message by Direct Get; None if there is none.

        ``request`` is ``{"seq": …}``, ``{"last_by_subj": …}`` or another form of ADR-31.

        Raises:
            UnavailableError: NATS did not answer.
        """
        payload = msgspec.json.encode(request)
        message = await _answer(
            self._requests,
            f"$JS.API.DIRECT.GET.{stream}",
            payload,
            is_repeatable=True,
            needs_leader=False,
        )
        return None if "Status" in (message.headers or {}) else _stored(message)

    async def get_newest(
        self,
        stream: str,
        request: dict[str, Any],
        at_least: int = 0,
        *,
        is_optional: bool = False,
    ) -> StoredMessage | None:
        """Read one message from the stream's leader; None if there is none.

        A Direct Get may be answered by a replica that lags. A decision that rests on "there is no
        message" or "no newer message" needs the leader. ``request`` is as for :meth:`get`.

        That there is no message is believed only of a leader that has a quorum, because an older
        leader may answer during a partition and lack messages that the cluster has stored. With
        ``at_least`` the leader must also prove that its store works: one that is about to give up
        its full disk answers that there is nothing.

        Args:
            stream: the stream.
            request: which message.
            at_least: a sequence that the caller has seen there; 1 if it has seen any message.
            is_optional: whether the stream may not exist. Otherwise the request is repeated for two
                seconds: a busy cluster denies a stream that has just been created.

        Raises:
            JetStreamError: JetStream refused, for example because there is no such stream.
            UnavailableError: NATS did not answer, or no leader with a quorum did.
        """
        pauses_s = () if is_optional else _UNKNOWN_PAUSES_S
        message = await self._get_from_leader(stream, request, pauses_s)
        if message is not None and message.sequence >= at_least:
            return message
        if at_least:
            await self._prove_store(stream)
        elif is_sole(await self.leader_info(stream)):
            return message
        return await self._get_from_leader(stream, request)

    async def _prove_store(self, stream: str) -> None:
        """Wait until the leader has stored what it was sent before, as only a working one can."""
        try:
            # Stored and replicated like a message, but it matches nothing, so nothing is purged.
            await self.api(f"STREAM.PURGE.{stream}", {"filter": _NO_SUBJECT})
        except JetStreamError as error:
            raise UnavailableError(f"the leader of {stream} cannot store: {error}") from error

    async def leader_info(self, stream: str) -> dict[str, Any]:
        """Return the ``STREAM.INFO`` of a leader that has a quorum.

        Raises:
            JetStreamError: JetStream refused, for example because there is no such stream.
            UnavailableError: NATS did not answer, or no leader with a quorum did.
        """

        async def read() -> dict[str, Any]:
            return await self.api(f"STREAM.INFO.{stream}")

        return await until_caught_up(read, has_quorum, f"the leader of {stream}")

    async def _get_from_leader(
        self, stream: str, request: dict[str, Any], pauses_s: Sequence[float] = ()
    ) -> StoredMessage | None:
        try:
            answer = await self.api(f"STREAM.MSG.GET.{stream}", request)
        except UnavailableError:
            self._record.note_unread(stream)
            raise
        except JetStreamError as error:
            if error.code == _NO_MESSAGE:
                return None
            if error.code != STREAM_NOT_FOUND or not pauses_s:
                raise
            await asyncio.sleep(pauses_s[0])
            return await self._get_from_leader(stream, request, pauses_s[1:])
        message = answer["message"]
        return StoredMessage(
            message["seq"],
            message["subject"],
            base64.b64decode(message.get("data", "")),
            _parse_headers(base64.b64decode(message.get("hdrs", ""))),
            message["time"],
        )

    async def delete(self, stream: str, sequence: int) -> None:
        """Delete one message, if the stream has it. Its bytes are overwritten later.

        Raises:
            JetStreamError: JetStream refused.
            UnavailableError: NATS did not answer.
        """
        try:
            body = {"seq": sequence, "no_erase": True}
            await self.api(f"STREAM.MSG.DELETE.{stream}", body)
        except JetStreamError as error:
            if error.code not in _NOT_DELETED:
                raise

    async def read(
        self, stream: str, subject: str, from_sequence: int
    ) -> AsyncIterator[StoredMessage]:
        """Read the messages of ``subject`` (wildcards allowed) from a sequence to the live edge.

        Pages are read one after the other, each a few MiB at most, so that a long history is never
        in memory as a whole.
        """
        sequence = max(from_sequence, 1)
        while True:
            page, pending = await self.batch(
                stream,
                {
                    "batch": _PAGE_MESSAGES,
                    "max_bytes": _PAGE_BYTES,
                    "seq": sequence,
                    "next_by_subj": subject,
                },
            )
            for message in page:
                yield message
            if not page or not pending:
                return
            sequence = page[-1].sequence + 1

    async def batch(self, stream: str, request: dict[str, Any]) -> tuple[list[StoredMessage], int]:
        """Read one batch by Direct Get; return it and how many more messages match.

        Raises:
            JetStreamError: JetStream refused.
            UnavailableError: NATS did not answer, or the stream has no leader.
        """
        found = await self.batch_up_to(stream, request)
        return found.messages, found.pending

    async def batch_up_to(self, stream: str, request: dict[str, Any]) -> Batch:
        """Read one batch by Direct Get, with how far the answering replica is.

        Raises: as :meth:`batch`.
        """
        done: asyncio.Future[Batch] = asyncio.get_running_loop().create_future()

        def receiver() -> OnReply:
            page: list[StoredMessage] = []

            def receive(message: Msg) -> None:
                headers = message.headers or {}
                if done.done():
                    return
                match headers.get("Status"):
                    case None:
                        page.append(_stored(message))
                    case "204":
                        up_to = headers.get("Nats-UpTo-Sequence")
                        pending = int(headers.get("Nats-Num-Pending", "0"))
                        done.set_result(Batch(page, pending, int(up_to) if up_to else None))
                    case "404":
                        done.set_result(Batch(page, 0, None))
                    case status:
                        reason = headers.get("Description", "direct get failed")
                        done.set_exception(
                            JetStreamError(int(status), reason)
                            if status != "503"
                            else UnavailableError(f"stream {stream} has no leader now")
                        )

            return receive

        payload = msgspec.json.encode(request)
        subject = f"$JS.API.DIRECT.GET.{stream}"
        try:
            return await self._requests.request_many(subject, payload, receiver(), done, receiver)
        except (TimeoutError, nats.errors.Error) as error:
            raise UnavailableError(f"NATS did not answer a read of {stream}: {error!r}") from error

    async def last_of(
        self, stream: str, subjects: Sequence[str], at_least: int
    ) -> dict[str, StoredMessage]:
        """Return the newest message of each subject that has one, unordered.

        Args:
            stream: the stream.
            subjects: without wildcards. At least one must have a message, or else no replica can
                report how far it is.
            at_least: the sequence that the answering replica must have reached.

        Raises:
            UnavailableError: NATS did not answer, or no up-to-date replica did.
        """
        found: dict[str, StoredMessage] = {}
        for start in range(0, len(subjects), _SUBJECTS_PER_READ):
            some = list(subjects[start : start + _SUBJECTS_PER_READ])
            found |= await self._last_of(stream, some, at_least)
        return found

    async def _last_of(
        self, stream: str, subjects: list[str], at_least: int
    ) -> dict[str, StoredMessage]:
        async def read() -> tuple[dict[str, StoredMessage], bool]:
            found: dict[str, StoredMessage] = {}
            sequence, has_more, is_up_to_date = 1, True, True
            while has_more and is_up_to_date:
                request = {
                    "multi_last": subjects,
                    "batch": _SUBJECTS_PER_READ,
                    "max_bytes": _PAGE_BYTES,
                    "seq": sequence,
                }
                batch = await self.batch_up_to(stream, request)
                # A subject that has got a newer message meanwhile comes again, on a later page.
                found |= {message.subject: message for message in batch.messages}
                is_up_to_date = batch.up_to is not None and batch.up_to >= at_least
                has_more = batch.pending > 0
                sequence = batch.messages[-1].sequence + 1 if batch.messages else sequence
            return found, is_up_to_date

        found, _ = await until_caught_up(
            read, lambda result: result[1] or not at_least, f"stream {stream}"
        )
        return found


async def _answer(
    requests: RequestMultiplexer,
    subject: str,
    payload: bytes,
    headers: dict[str, str] | None = None,
    *,
    is_repeatable: bool = False,
    needs_leader: bool = True,
) -> Msg:
    try:
        return await requests.request(
            subject, payload, headers, is_repeatable=is_repeatable, needs_leader=needs_leader
        )
    except (TimeoutError, nats.errors.Error) as error:
        raise UnavailableError(f"NATS did not answer on {subject}: {error!r}") from error


async def subject_counts(jetstream: JetStream, stream: str, pattern: str = ">") -> dict[str, int]:
    """Return the number of messages of each subject of a stream that matches ``pattern``."""
    counts: dict[str, int] = {}
    while True:
        request = {"subjects_filter": pattern, "offset": len(counts)}
        answer = await jetstream.api(f"STREAM.INFO.{stream}", request)
        page: dict[str, int] = answer["state"].get("subjects") or {}
        counts |= page
        if not page or len(counts) >= answer["total"]:
            return counts


def stored_sequence(answer: bytes) -> int:
    """Return the sequence in JetStream's acknowledgement of a publish.

    Raises:
        WrongLastSequenceError: the fence in the headers did not hold.
        JetStreamError: JetStream refused for another reason.
        TemporarilyUnavailableError: the message must be sent again.
        StoreFailedError: JetStream cannot store now.
    """
    ack = _decode_ack(answer)
    if ack.error is not None:
        _raise(ack.error)
    return ack.seq


def _stored(message: Msg) -> StoredMessage:
    headers = message.headers or {}
    return StoredMessage(
        int(headers["Nats-Sequence"]),
        headers["Nats-Subject"],
        message.data,
        headers,
        headers["Nats-Time-Stamp"],
    )


def _parse_headers(block: bytes) -> dict[str, str]:
    _version, *lines = block.decode(errors="replace").split("\r\n")
    fields = (line.partition(":") for line in lines if line)
    return {name: value.strip() for name, _, value in fields}


def _raise(error: _ApiError) -> None:
    if is_full(error.err_code, error.description):
        raise StoreFullError(
            "the store is full: a stream has used its share of TAILRACE_MAX_STORE_BYTES; see the "
            "runbook StoreFull"
        )
    if error.err_code in CANNOT_STORE and not is_limit(error.err_code, error.description):
        raise StoreFailedError(error.description)
    if error.err_code in _TEMPORARILY_UNAVAILABLE:
        raise TemporarilyUnavailableError(f"JetStream cannot serve now: {error.description}")
    kind = WrongLastSequenceError if error.err_code in _WRONG_LAST_SEQUENCE else JetStreamError
    raise kind(error.err_code or error.code, error.description)
