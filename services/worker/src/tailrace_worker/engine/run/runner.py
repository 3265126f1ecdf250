"""Run one attempt of one node, and return its outcome as data."""

import asyncio
import contextvars
import functools
import itertools
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from tailrace_shared.errors import ExpressionError
from tailrace_shared.execution.evaluation import render
from tailrace_shared.execution.events import MAX_VALUE_BYTES
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.json_encoding import NotJsonError, encode_json
from tailrace_shared.process.tracing import current_traceparent
from tailrace_worker.engine.decide.outcomes import Erred, Outcome, Succeeded, Unable
from tailrace_worker.engine.decide.plan import PlannedNode, names_of
from tailrace_worker.engine.run.attempt import Attempt
from tailrace_worker.engine.run.failures import erred
from tailrace_worker.engine.run.output_budget import HeldOutputs, OutputMemoryError
from tailrace_worker.engine.run.value_size import is_small
from tailrace_worker.engine.tasks.loop_slices import LoopSlices
from tailrace_worker.nodes.node import NodeFunction, Wait
from tailrace_worker.nodes.raised import is_a
from tailrace_worker.nodes.registry import NodeRegistry
from tailrace_worker.nodes.waits import ForChild, ForSignal
from tailrace_worker.secrets.redactor import Redactor
from tailrace_worker.secrets.secret_store import SecretError, Secrets, SecretStore

# How many parts of an output are measured before it is encoded.
_SAMPLED: Final = 1_000
_ANY_TIME: Final = 2_000_000_000.0
# The check of a large output holds the interpreter's lock for tens of milliseconds. The event loop
# would wait for several threads in turn.
_LARGE_OUTPUTS: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Call:
    function: NodeFunction
    attempt: Attempt
    # Excluded from repr: parameters may hold secrets, and event loops print what they call.
    parameters: dict[str, Any] = field(repr=False)
    redactor: Redactor | None = None

    def __call__(self) -> Any:
        return self.function.call(**self.parameters)


class Runner:
    """Runs attempts: coroutine functions on the loop, synchronous ones in the executor's threads.

    Args:
        threads: executes synchronous functions.
        max_output_bytes: the largest output as JSON, in bytes.
        interrupts: exceptions that ``threads`` must receive; :meth:`run` still makes them outcomes.
        slices: limits the time of expressions in one iteration of the loop; None for no limit.
    """

    def __init__(
        self,
        registry: NodeRegistry,
        threads: Executor,
        max_output_bytes: int,
        secrets: SecretStore,
        interrupts: tuple[type[BaseException], ...] = (),
        slices: LoopSlices | None = None,
    ) -> None:
        self._registry = registry
        self._threads = threads
        self._max_output_bytes = max_output_bytes
        self._secrets = secrets
        self._interrupts = interrupts
        self._slices = slices

    def with_threads(
        self, threads: Executor, interrupts: tuple[type[BaseException], ...] = ()
    ) -> "Runner":
        """Return the same runner with another executor for synchronous functions.

        Args:
            interrupts: the exceptions by which the executor interrupts a function.
        """
        return Runner(
            self._registry,
            threads,
            self._max_output_bytes,
            self._secrets,
            interrupts,
            self._slices,
        )

    def observes_cancel(self, node: PlannedNode) -> bool:
        """Return whether the node's function can observe that it is cancelled."""
        function = self._registry.get(node.node.type)
        return function is not None and function.takes_context

    def is_instant(self, node: PlannedNode) -> bool:
        """Return whether the node can run inside a commit."""
        function = self._registry.get(node.node.type)
        return function is not None and function.is_instant

    def run_instant(self, node: PlannedNode, state: ExecutionState, attempt: Attempt) -> Outcome:
        """Run a node that has no effects and never waits."""
        try:
            call = self._prepare(node, state, attempt)
            if isinstance(call, Erred | Unable):
                return call
            return _without_sensitive_id(self._call_to_outcome(call, node), node, attempt)
        # It would end the drive, with all its other attempts.
        except BaseException as error:  # noqa: BLE001
            return erred(error, node, None)

    async def run(self, node: PlannedNode, state: ExecutionState, attempt: Attempt) -> Outcome:
        """Run any node, at most for the duration of its timeout."""
        secrets: Secrets | None = None
        if node.secrets:
            try:
                secrets = await self._load_secrets(node, attempt)
            except SecretError as error:
                return Erred(str(error))
        if self._slices is not None and self._slices.is_full:
            await self._slices.wait()
        begun = time.monotonic()
        call = self._prepare(node, state, attempt, secrets)
        if self._slices is not None:
            self._slices.add(time.monotonic() - begun)
        if isinstance(call, Erred | Unable):
            return call
        seconds = node.node.timeout_seconds
        # A timeout costs as much as a whole quick step.
        limit = None if seconds is None else asyncio.timeout(seconds)
        try:
            if limit is None:
                return await self._call(call, node)
            async with limit:
                return await self._call(call, node)
        # An exception of any class ends the attempt: SystemExit, GeneratorExit, the panic of an
        # extension in Rust, a group of exceptions.
        except BaseException as error:
            if is_a(error, TimeoutError) and limit is not None and limit.expired():
                # A thread cannot be interrupted; its function can only observe the cancellation.
                attempt.mark_cancelled()
                return Erred(f"timed out after {node.node.timeout}")
            if _is_ending(error, attempt):
                raise
            return erred(error, node, call.redactor)

    async def _load_secrets(self, node: PlannedNode, attempt: Attempt) -> Secrets | None:
        """Return the secrets of an attempt, and set the redactor of its reports.

        Raises:
            SecretError: one of them cannot be resolved.
        """
        function = self._registry.get(node.node.type)
        # Checked definitions name none elsewhere, but checks change with versions.
        if function is None or not function.type.secrets:
            return None
        secrets = await self._secrets.get(attempt.tenant, node.secrets)
        attempt.redactor = secrets.redactor
        return secrets

    async def _call(self, call: _Call, node: PlannedNode) -> Outcome:
        if call.function.is_async:
            value = await call()
            if is_small(value):
                return _outcome(value, self._max_output_bytes, call)
            try:
                # It may wait for a thread, in memory.
                call.attempt.held.cover(_least_bytes(value))
            except OutputMemoryError as error:
                return Erred(str(error))
            # To encode and redact megabytes would hold up the loop, and with it all executions.
            return await asyncio.to_thread(_outcome, value, self._max_output_bytes, call)
        loop = asyncio.get_running_loop()
        run = functools.partial(self._call_to_outcome, call, node, _LARGE_OUTPUTS)
        if current_traceparent():
            # The attempt's span is current in the function as well.
            run = functools.partial(contextvars.copy_context().run, run)
        return await loop.run_in_executor(self._threads, run)

    def _call_to_outcome(
        self, call: _Call, node: PlannedNode, turn: AbstractContextManager[Any] | None = None
    ) -> Outcome:
        """Run a call; return an outcome, as a future cannot hold a StopIteration.

        Args:
            turn: held while a large output is checked.
        """
        try:
            value = call()
            if turn is None or is_small(value):
                return _outcome(value, self._max_output_bytes, call)
            # It waits for its turn, in memory.
            call.attempt.held.cover(_least_bytes(value))
            with turn:
                began = time.thread_time()
                outcome = _outcome(value, self._max_output_bytes, call)
                # The loop goes on before the next thread does.
                time.sleep(time.thread_time() - began)
                return outcome
        except self._interrupts:
            raise
        except OutputMemoryError as error:
            return Erred(str(error))
        except BaseException as error:  # noqa: BLE001 - of any class, as in `run`
            return erred(error, node, call.redactor)

    def _prepare(
        self,
        node: PlannedNode,
        state: ExecutionState,
        attempt: Attempt,
        secrets: Secrets | None = None,
    ) -> _Call | Erred | Unable:
        function = self._registry.get(node.node.type)
        if function is None:
            return Unable(f"this worker has no node type {node.node.type!r}")
        try:
            names = names_of(attempt.node_id, state)
            if secrets is not None:
                names = {**names, "secrets": secrets.values}
            parameters = render(node.parameters, state, names, node.budget())
        except ExpressionError as error:
            return Erred(str(error), retryable=False)
        if problem := _parameter_error(function, parameters):
            return Erred(problem, retryable=False)
        if not function.is_instant:
            # Copied, because a node may change its parameters, which belong to the state.
            try:
                parameters = msgspec.json.decode(encode_json(parameters))
            except NotJsonError as error:
                return Erred(f"the parameters are not JSON: {error}", retryable=False)
        if function.takes_context:
            parameters = {**parameters, "ctx": attempt}
        redactor = None if secrets is None else secrets.redactor
        return _Call(function, attempt, parameters, redactor)


def _parameter_error(function: NodeFunction, parameters: dict[str, Any]) -> str | None:
    # Checked here too: this worker may have another version of the function than the API.
    known = function.type.parameters
    unknown = [] if function.type.open else [key for key in parameters if key not in known]
    missing = [key for key, spec in known.items() if spec.required and key not in parameters]
    if unknown:
        return f"{function.type.name} takes no {', '.join(unknown)}"
    if missing:
        return f"{function.type.name} needs {', '.join(missing)}"
    return None


def _is_ending(error: BaseException, attempt: Attempt) -> bool:
    """Return whether an error ends the attempt's task, rather than come from its function."""
    if is_a(error, asyncio.CancelledError):
        # A function may also await a cancelled task, or cancel the task that runs it.
        return attempt.cancelled and _is_cancelled()
    # A coroutine is closed from outside of any task.
    return is_a(error, GeneratorExit) and not _is_in_task()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _is_in_task() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


def _outcome(value: Any, max_bytes: int, call: _Call) -> Outcome:
    match value:
        case Wait():
            return _checked_wait(value)
        case ForSignal():
            return value
        case ForChild():
            return _checked_child(value)
        case _:
            is_used = call.attempt.keeps_output or call.redactor is not None
            outcome = _checked_output(value, max_bytes, call.attempt.held, is_used=is_used)
            return _redacted(outcome, call.redactor)


def _without_sensitive_id(outcome: Outcome, node: PlannedNode, attempt: Attempt) -> Outcome:
    """Refuse a child run whose workflow's id is a sensitive value: lists of runs show ids."""
    is_computed = any(path[0] == "id" for path, _ in node.parameters.expressions)
    if isinstance(outcome, ForChild) and is_computed and attempt.marks("id", outcome.workflow_id):
        return Erred("the id of a workflow must not be a sensitive value", retryable=False)
    return outcome


def _redacted(outcome: Outcome, redactor: Redactor | None) -> Outcome:
    if redactor is None:
        return outcome
    if isinstance(outcome, Erred):
        return Erred(redactor.redact_text(outcome.message), outcome.retryable)
    if not isinstance(outcome, Succeeded):
        return outcome
    output = redactor.redact_value(outcome.output)
    if output is outcome.output or outcome.encoded is None:
        return Succeeded(output, outcome.encoded)
    return Succeeded(output, msgspec.json.encode(output))


def _checked_child(child: ForChild) -> Outcome:
    try:
        size = len(encode_json(child.input))
    except NotJsonError as error:
        return Erred(f"the input is not JSON: {error}", retryable=False)
    if size > MAX_VALUE_BYTES:
        return Erred(f"the input is {size} bytes; the limit is {MAX_VALUE_BYTES}", retryable=False)
    return child


def _least_bytes(value: Any) -> int:
    """Return the size of an output's largest texts, as far as they are found at once."""
    match value:
        case str() | bytes():
            return len(value)
        case dict():
            parts: Iterable[Any] = value.values()
        case list() | tuple():
            parts = value
        case _:
            return 0
    texts = (part for part in itertools.islice(parts, _SAMPLED) if isinstance(part, str | bytes))
    return sum(map(len, texts))


def _checked_output(
    value: Any, max_bytes: int, held: HeldOutputs, *, is_used: bool = True
) -> Outcome:
    try:
        encoded = encode_json(value)
    except NotJsonError as error:
        return Erred(f"the output is not JSON: {error}", retryable=False)
    if len(encoded) > max_bytes:
        return Erred(
            f"the output is {len(encoded)} bytes; the limit is {max_bytes} "
            "(TAILRACE_MAX_OUTPUT_BYTES)",
            retryable=False,
        )
    if len(encoded) > MAX_VALUE_BYTES:
        try:
            held.cover(len(encoded))
        except OutputMemoryError as error:
            return Erred(str(error))
        if not is_used:
            return Succeeded(msgspec.UNSET, encoded)
    # Expressions must see now what they would see after a recovery from the log.
    output = msgspec.json.decode(encoded)
    return Succeeded(output, encoded if len(encoded) > MAX_VALUE_BYTES else None)


def _checked_wait(wait: Wait) -> Outcome:
    try:
        # Any point in time will do to validate a duration.
        format_timestamp(_ANY_TIME + wait.seconds if wait.until is None else wait.until)
    except (TypeError, ValueError, OverflowError, OSError):
        wanted = wait.seconds if wait.until is None else wait.until
        return Erred(f"there is no time {wanted!r} to wait for", retryable=False)
    return wait
