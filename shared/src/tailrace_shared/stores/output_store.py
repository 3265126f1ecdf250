"""Outputs that are too large for an event, stored in chunks and referred to by the event.

NATS has an object store of its own (ADR-20). But its readers create a consumer for each object, and
its metadata is a second source of truth beside the event that refers to the object. Here the
reference is sufficient: a name that no other attempt has, and the size. The subjects of all chunks
follow from it, are read in one request, and are complete when the size matches.
"""

import asyncio
from collections.abc import Collection, Iterator
from typing import Any, Final

import msgspec

from tailrace_shared.errors import OutputNotFoundError, OutputTooLargeError, StoreFullError
from tailrace_shared.execution.events import OutputRef
from tailrace_shared.execution.items import item_id
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.ids import new_token
from tailrace_shared.nats.jetstream import JetStream, StoredMessage
from tailrace_shared.nats.topology import OUTPUTS
from tailrace_shared.subjects import Subjects

_CHUNK_BYTES: Final = 512 * 1024
_CHUNKS_PER_READ: Final = 64
_MAX_CONCURRENT_FETCHES: Final = 8
# The event loop copies the chunks of all outputs that it is sending.
_MAX_CONCURRENT_CHUNKS: Final = 4


class OutputStore:
    """Stores and fetches outputs.

    Args:
        max_bytes: the largest output that may be stored, as JSON; 0 if this service stores none.
    """

    def __init__(self, jetstream: JetStream, subjects: Subjects, max_bytes: int) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self._stream = subjects.stream(OUTPUTS)
        self._max_bytes = max_bytes
        self._chunk_turns = asyncio.Semaphore(_MAX_CONCURRENT_CHUNKS)
        self._decode_turns = asyncio.Lock()

    async def put(
        self, tenant: str, execution: str, step_id: str, attempt: int, encoded: bytes
    ) -> OutputRef:
        """Store an output; return the reference to it.

        Raises:
            OutputTooLargeError: it exceeds the limit, or the store is full.
            UnavailableError: NATS did not answer; no event refers to the chunks that are stored.
        """
        if len(encoded) > self._max_bytes:
            raise OutputTooLargeError(
                f"the output of {step_id!r} in attempt {attempt} is {len(encoded)} bytes of JSON; "
                f"the limit is {self._max_bytes} (TAILRACE_MAX_OUTPUT_BYTES)"
            )
        ref = OutputRef(f"{tenant}.{execution}.{new_token()}", len(encoded))
        # One chunk at a time: commits on this connection must not wait behind 16 MiB.
        for index, subject in enumerate(self._chunks(ref)):
            start = index * _CHUNK_BYTES
            try:
                async with self._chunk_turns:
                    await self._jetstream.publish(subject, encoded[start : start + _CHUNK_BYTES])
            except StoreFullError as error:
                # Not to be repeated until there is room: the output would stay in memory.
                raise OutputTooLargeError(f"the output of {step_id!r}: {error}") from None
        return ref

    async def get(self, ref: OutputRef) -> Any:
        """Return an output.

        Raises:
            OutputNotFoundError: it has expired.
        """
        subjects = list(self._chunks(ref))
        found: dict[str, bytes] = {}
        for start in range(0, len(subjects), _CHUNKS_PER_READ):
            found |= await self._read(subjects[start : start + _CHUNKS_PER_READ])
        for subject in subjects:
            if subject not in found:
                found[subject] = await self._read_from_leader(subject, ref)
        # One in an iteration of the loop: to decode many large outputs at once would stall it.
        async with self._decode_turns:
            await asyncio.sleep(0)
            return msgspec.json.decode(b"".join(found[subject] for subject in subjects))

    async def delete(self, tenant: str, execution: str) -> None:
        """Delete all outputs of an execution.

        Raises:
            UnavailableError: NATS did not answer; some may be deleted.
        """
        subject = self._subjects.outputs(tenant, execution)
        await self._jetstream.api(f"STREAM.PURGE.{self._stream}", {"filter": subject})

    async def fetch(self, state: ExecutionState, nodes: Collection[str] | None = None) -> None:
        """Fetch the stored outputs of a state, so that expressions can use them.

        Args:
            state: the execution; updated in place.
            nodes: the nodes whose outputs to fetch; None for all. The output of a map that is
                gathered from its items includes theirs.

        Raises:
            OutputNotFoundError, UnavailableError: as :meth:`get`.
        """
        steps = _steps(state, nodes)
        limit = asyncio.Semaphore(_MAX_CONCURRENT_FETCHES)
        missing = _missing(state, steps).values()
        await asyncio.gather(*(self._fill(step, limit) for step in missing))
        for whole in filter(_is_gathered, steps):
            whole.output = state.gathered_output(whole)

    def bytes_to_fetch(self, state: ExecutionState, nodes: Collection[str] | None = None) -> int:
        """Return how many bytes of JSON :meth:`fetch` would fetch."""
        missing = _missing(state, _steps(state, nodes)).values()
        return sum(step.output_ref.bytes for step in missing if step.output_ref is not None)

    async def _fill(self, step: StepState, limit: asyncio.Semaphore) -> None:
        if step.output_ref is not None:
            async with limit:
                step.output = await self.get(step.output_ref)

    def _chunks(self, ref: OutputRef) -> Iterator[str]:
        tenant, execution, name = ref.object.split(".")
        count = -(-ref.bytes // _CHUNK_BYTES)
        return (self._subjects.output(tenant, execution, name, index) for index in range(count))

    async def _read(self, subjects: list[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        sequence = 1
        while True:
            request = {"multi_last": subjects, "batch": len(subjects), "seq": sequence}
            page, pending = await self._jetstream.batch(self._stream, request)
            found |= {message.subject: message.data for message in page}
            if not page or not pending:
                return found
            sequence = page[-1].sequence + 1

    async def _read_from_leader(self, subject: str, ref: OutputRef) -> bytes:
        request = {"last_by_subj": subject}
        # It was stored: a service that writes outputs has the leader prove that it is gone.
        at_least = 1 if self._max_bytes else 0
        message: StoredMessage | None = await self._jetstream.get_newest(
            self._stream, request, at_least
        )
        if message is None:
            raise OutputNotFoundError(f"the output {ref.object} has expired")
        return message.data


def _steps(state: ExecutionState, nodes: Collection[str] | None) -> list[StepState]:
    wanted = state.steps.keys() if nodes is None else nodes
    return [step for node_id in wanted if (step := state.steps.get(node_id)) is not None]


def _is_gathered(step: StepState) -> bool:
    return step.output_omitted


def _missing(state: ExecutionState, steps: list[StepState]) -> dict[str, StepState]:
    items = (item for whole in filter(_is_gathered, steps) for item in _items(state, whole))
    return {
        step.node_id: step
        for step in [*steps, *items]
        if step.output is msgspec.UNSET and step.output_ref is not None
    }


def _items(state: ExecutionState, whole: StepState) -> Iterator[StepState]:
    for index in range(len(whole.items or [])):
        step = state.steps.get(item_id(whole.node_id, index))
        if step is not None:
            yield step
