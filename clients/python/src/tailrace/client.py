"""The Python clients, with one method per operation of the API."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import Any, Generic, ParamSpec, Self, TypeVar, overload

from tailrace import operations
from tailrace.documents import RunDocument, StartedRun
from tailrace.operations import Call, segment
from tailrace.profiles import connection_of
from tailrace.stream import (
    AsyncExecutionStream,
    AsyncTopicStream,
    Event,
    ExecutionStream,
    TopicStream,
    groups_of,
)
from tailrace.transport import AsyncTransport, Transport

P = ParamSpec("P")
T = TypeVar("T")


class _Method(Generic[P, T]):
    """An operation as a method of ``Client``."""

    def __init__(self, build: Callable[P, Call[T]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: "Client", owner: type) -> Callable[P, T]: ...
    def __get__(self, client: "Client | None", owner: type) -> Self | Callable[P, T]:
        if client is None:
            return self

        @functools.wraps(self._build)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return client.send(self._build(*args, **kwargs))

        return call


class _AsyncMethod(Generic[P, T]):
    """An operation as a method of ``AsyncClient``."""

    def __init__(self, build: Callable[P, Call[T]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(
        self, client: "AsyncClient", owner: type
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(
        self, client: "AsyncClient | None", owner: type
    ) -> Self | Callable[P, Coroutine[Any, Any, T]]:
        if client is None:
            return self

        @functools.wraps(self._build)
        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return await client.send(self._build(*args, **kwargs))

        return call


class Run(StartedRun):
    """A run that a client has started."""

    def __init__(self, started: StartedRun, client: "Client") -> None:
        super().__init__(started)
        # Not a field of the document.
        object.__setattr__(self, "_client", client)

    def result(self, timeout: float | None = None) -> RunDocument:
        """Wait until the run ends; return it.

        Args:
            timeout: the longest wait in seconds; None for no limit.

        Raises:
            TimeoutError: it has not ended in time. The run continues.
        """
        client: Client = self._client
        return client.result(self.execution_id, timeout)


class AsyncRun(StartedRun):
    """A run that an asynchronous client has started."""

    def __init__(self, started: StartedRun, client: "AsyncClient") -> None:
        super().__init__(started)
        object.__setattr__(self, "_client", client)

    async def result(self, timeout: float | None = None) -> RunDocument:  # noqa: ASYNC109 - as in Run
        """Wait until the run ends; return it. See :meth:`Run.result`."""
        client: AsyncClient = self._client
        return await client.result(self.execution_id, timeout)


class Client:
    """A client of one API, with one token, for one organisation.

    Every method raises ``RefusedError`` if the API responds with a problem,
    ``UnreachableError`` if it does not respond, and ``ValueError``, with the place, for what JSON
    does not have, such as NaN. Documents are dictionaries in the API's JSON format, and their
    fields are attributes as well.

    Without ``url`` the client uses ``TAILRACE_URL``, ``TAILRACE_TOKEN`` and
    ``TAILRACE_ORGANIZATION`` of the environment, else those of ``.env`` in the current folder, else
    a profile of the configuration file (``profile``, ``TAILRACE_PROFILE`` or its default).
    ``timeout`` is the longest wait for a response, in seconds.

        with Client() as client:
            run = client.run("purchase-order", {"po_number": "PO-1", "csv": text})
            print(run.result().output)
    """

    def __init__(
        self,
        url: str | None = None,
        token: str = "",
        *,
        organization: str = "",
        profile: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        found = connection_of(url, token, organization, profile)
        self._transport = Transport(
            found.url, found.token, organization=found.organization, timeout=timeout
        )
        self._timeout = timeout

    @property
    def url(self) -> str:
        """The URL of the API, without credentials."""
        return self._transport.url

    def send(self, call: Call[T]) -> T:
        """Send an operation of :mod:`tailrace.operations` and return its result."""
        return self._transport.send(call)

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    validate = _Method(operations.validate)
    apply = _Method(operations.apply)
    workflows = _Method(operations.workflows)
    workflow = _Method(operations.workflow)
    versions = _Method(operations.versions)
    delete_workflow = _Method(operations.delete_workflow)
    stats = _Method(operations.stats)
    graph = _Method(operations.graph)
    get = _Method(operations.get)
    list = _Method(operations.list_runs)
    step = _Method(operations.step)
    output = _Method(operations.output)
    cancel = _Method(operations.cancel)
    pause = _Method(operations.pause)
    resume = _Method(operations.resume)
    cancel_all = _Method(operations.cancel_all)
    rerun_all = _Method(operations.rerun_all)
    signal = _Method(operations.signal)
    waiting = _Method(operations.waiting)
    schedule = _Method(operations.schedule)
    schedules = _Method(operations.schedules)
    unschedule = _Method(operations.unschedule)
    pause_schedule = _Method(operations.pause_schedule)
    resume_schedule = _Method(operations.resume_schedule)
    backfill = _Method(operations.backfill)
    dead_letters = _Method(operations.dead_letters)
    dead_letter = _Method(operations.dead_letter)
    replay = _Method(operations.replay)
    replay_all = _Method(operations.replay_all)
    purge = _Method(operations.purge)
    purge_all = _Method(operations.purge_all)
    me = _Method(operations.me)

    def run(
        self,
        workflow_id: str,
        input_data: Any = None,
        *,
        tags: Iterable[str] = (),
        idempotency_key: str | None = None,
    ) -> Run:
        """Start a run; ``result()`` of it waits for its end.

        The request carries an Idempotency-Key (``idempotency_key`` or a new one), so a request that
        is repeated after a lost response starts only one run.
        """
        call = operations.run(
            workflow_id, input_data, tags=tuple(tags), idempotency_key=idempotency_key
        )
        return Run(self.send(call), self)

    def rerun(self, execution_id: str, from_node: str | None = None, **options: Any) -> Run:
        """Run an ended run again; ``options`` are those of :func:`tailrace.operations.rerun`."""
        call = operations.rerun(execution_id, from_node, **options)
        return Run(self.send(call), self)

    def run_schedule(self, schedule_id: str, *, idempotency_key: str | None = None) -> Run:
        """Start a run of a schedule now."""
        call = operations.run_schedule(schedule_id, idempotency_key=idempotency_key)
        return Run(self.send(call), self)

    def events(self, execution_id: str, last_event_id: str = "") -> ExecutionStream:
        """Return an iterator over the events of a run, or over those after ``last_event_id``.

        It follows the run until the run ends, and reconnects when a connection is lost.
        """
        return ExecutionStream(self._transport, segment(execution_id), last_event_id)

    def result(self, execution_id: str, timeout: float | None = None) -> RunDocument:
        """Wait until a run ends; return it.

        Raises:
            TimeoutError: it has not ended within ``timeout`` seconds. The run continues.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        stream = ExecutionStream(self._transport, segment(execution_id), deadline=deadline)
        for _event in stream:
            pass
        return self.get(execution_id)

    def stream(self, topics: Iterable[str]) -> Iterator[Event]:
        """Yield the events of any number of topics, until the caller stops.

        Topics are ``execution:<id>``, ``paused``, ``pipeline:<id>``, ``feed``, ``runs``,
        ``runs:<workflow>``, ``tag:<tag>`` and ``stats``; ``topic`` of an event says which one it is
        of. More topics than one stream may have are divided among several connections, so only
        events of one topic are in order.
        """
        groups = groups_of(topics, self.me().limits["max_stream_topics"])
        return iter(TopicStream(self._transport, groups))


class AsyncClient:
    """The asynchronous client, with the methods and parameters of :class:`Client`.

    async with AsyncClient() as client:
        run = await client.run("purchase-order", {"po_number": "PO-1", "csv": text})
        async for event in client.events(run.execution_id):
            print(event.type, event.data)
    """

    def __init__(
        self,
        url: str | None = None,
        token: str = "",
        *,
        organization: str = "",
        profile: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        found = connection_of(url, token, organization, profile)
        self._transport = AsyncTransport(
            found.url, found.token, organization=found.organization, timeout=timeout
        )

    @property
    def url(self) -> str:
        """The URL of the API, without credentials."""
        return self._transport.url

    async def send(self, call: Call[T]) -> T:
        """Send an operation of :mod:`tailrace.operations` and return its result."""
        return await self._transport.send(call)

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    validate = _AsyncMethod(operations.validate)
    apply = _AsyncMethod(operations.apply)
    workflows = _AsyncMethod(operations.workflows)
    workflow = _AsyncMethod(operations.workflow)
    versions = _AsyncMethod(operations.versions)
    delete_workflow = _AsyncMethod(operations.delete_workflow)
    stats = _AsyncMethod(operations.stats)
    graph = _AsyncMethod(operations.graph)
    get = _AsyncMethod(operations.get)
    list = _AsyncMethod(operations.list_runs)
    step = _AsyncMethod(operations.step)
    output = _AsyncMethod(operations.output)
    cancel = _AsyncMethod(operations.cancel)
    pause = _AsyncMethod(operations.pause)
    resume = _AsyncMethod(operations.resume)
    cancel_all = _AsyncMethod(operations.cancel_all)
    rerun_all = _AsyncMethod(operations.rerun_all)
    signal = _AsyncMethod(operations.signal)
    waiting = _AsyncMethod(operations.waiting)
    schedule = _AsyncMethod(operations.schedule)
    schedules = _AsyncMethod(operations.schedules)
    unschedule = _AsyncMethod(operations.unschedule)
    pause_schedule = _AsyncMethod(operations.pause_schedule)
    resume_schedule = _AsyncMethod(operations.resume_schedule)
    backfill = _AsyncMethod(operations.backfill)
    dead_letters = _AsyncMethod(operations.dead_letters)
    dead_letter = _AsyncMethod(operations.dead_letter)
    replay = _AsyncMethod(operations.replay)
    replay_all = _AsyncMethod(operations.replay_all)
    purge = _AsyncMethod(operations.purge)
    purge_all = _AsyncMethod(operations.purge_all)
    me = _AsyncMethod(operations.me)

    async def run(
        self,
        workflow_id: str,
        input_data: Any = None,
        *,
        tags: Iterable[str] = (),
        idempotency_key: str | None = None,
    ) -> AsyncRun:
        """Start a run; see :meth:`Client.run`."""
        call = operations.run(
            workflow_id, input_data, tags=tuple(tags), idempotency_key=idempotency_key
        )
        return AsyncRun(await self.send(call), self)

    async def rerun(
        self, execution_id: str, from_node: str | None = None, **options: Any
    ) -> AsyncRun:
        """Run an ended run again; see :meth:`Client.rerun`."""
        call = operations.rerun(execution_id, from_node, **options)
        return AsyncRun(await self.send(call), self)

    async def run_schedule(
        self, schedule_id: str, *, idempotency_key: str | None = None
    ) -> AsyncRun:
        """Start a run of a schedule now."""
        call = operations.run_schedule(schedule_id, idempotency_key=idempotency_key)
        return AsyncRun(await self.send(call), self)

    def events(self, execution_id: str, last_event_id: str = "") -> AsyncExecutionStream:
        """Return an iterator over the events of a run; see :meth:`Client.events`."""
        return AsyncExecutionStream(self._transport, segment(execution_id), last_event_id)

    async def result(
        self,
        execution_id: str,
        timeout: float | None = None,  # noqa: ASYNC109 - as in Client
    ) -> RunDocument:
        """Wait until a run ends; return it. See :meth:`Client.result`."""
        async with asyncio.timeout(timeout):
            async for _event in self.events(execution_id):
                pass
            return await self.get(execution_id)

    async def stream(self, topics: Iterable[str]) -> AsyncIterator[Event]:
        """Yield the events of any number of topics; see :meth:`Client.stream`."""
        groups = groups_of(topics, (await self.me()).limits["max_stream_topics"])
        async for event in AsyncTopicStream(self._transport, groups):
            yield event
