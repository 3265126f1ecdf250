"""The runner: however a node function ends, it is an outcome."""

import asyncio
import dataclasses
import math
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from dramatiq.middleware import Shutdown, TimeLimitExceeded

from tailrace_shared.execution.events import MAX_VALUE_BYTES
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.workflow.definition import Node
from tailrace_worker.engine.decide.outcomes import Erred, Succeeded, Unable
from tailrace_worker.engine.decide.plan import PlannedNode
from tailrace_worker.engine.decide.sensitivity import SensitivityMarks
from tailrace_worker.engine.run.attempt import Attempt
from tailrace_worker.engine.run.output_budget import OutputBudget
from tailrace_worker.engine.run.runner import Runner
from tailrace_worker.nodes.node import NodeFailedError, Wait, declared_node, node
from tailrace_worker.nodes.registry import NodeRegistry
from tailrace_worker.nodes.waits import ForChild
from tailrace_worker.nodes.workflow import workflow
from tailrace_worker.secrets.secret_store import SecretStore


@pytest.fixture
def threads():
    """The executor for synchronous functions."""
    with ThreadPoolExecutor(4) as executor:
        yield executor


@pytest.fixture
def run(threads):
    """Run a function as a node; return the outcome."""

    async def run_node(function, parameters=None, *, timeout=None, state=None, instant=False):
        found = declared_node(node("under.test", instant=instant)(function))
        assert found is not None
        runner = Runner(NodeRegistry([found]), threads, MAX_VALUE_BYTES, SecretStore())
        under_test = Node("under.test", parameters=parameters or {}, timeout=timeout)
        planned = PlannedNode("n", under_test, is_actor=False)
        attempt = Attempt(
            "t", "e", StepState("n", attempt=1), asyncio.get_running_loop(), lambda: None
        )
        state = state or ExecutionState()
        if instant:
            assert runner.is_instant(planned)
            return runner.run_instant(planned, state, attempt)
        return await runner.run(planned, state, attempt)

    return run_node


def as_sync(function):
    """Leave a function as it is."""
    return function


def as_async(function):
    """Make a coroutine function of a function."""

    async def coroutine(**parameters):
        await asyncio.sleep(0)
        return function(**parameters)

    return coroutine


BOTH = pytest.mark.parametrize("kind", [as_sync, as_async])


class PanicException(BaseException):
    """The panic of an extension in Rust."""


EXCEPTIONS: list[BaseException] = [
    PanicException("index out of bounds"),
    BaseExceptionGroup("group", [PanicException("a"), ValueError("b")]),
    GeneratorExit("mine"),
    SystemExit(3),
    KeyboardInterrupt(),
    asyncio.CancelledError("mine"),
    StopAsyncIteration(),
    MemoryError(),
    RecursionError("deep"),
    Shutdown(),
    TimeLimitExceeded(),
]


@BOTH
async def test_what_a_function_returns_is_the_output(run, kind):
    """It is JSON: a tuple becomes a list at once, not only after a recovery."""
    assert await run(kind(lambda **_: {"a": (1, 2)})) == Succeeded({"a": [1, 2]})
    assert await run(kind(lambda **_: None)) == Succeeded(None)


async def test_parameters_are_rendered_and_given_by_name(run):
    """A function that has a parameter ``ctx`` receives the context."""

    @node("x")
    def function(ctx, total, note="none"):
        return [ctx.execution_id, total, note]

    state = ExecutionState(input={"total": 5})
    assert await run(function, {"total": "${input.total}"}, state=state) == Succeeded(
        ["e", 5, "none"]
    )


@BOTH
@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NodeFailedError("out of paper"), Erred("out of paper")),
        (NodeFailedError("never", retryable=False), Erred("never", retryable=False)),
        (ValueError("bad"), Erred("ValueError: bad")),
        (KeyError("k"), Erred("KeyError: 'k'")),
        (TimeoutError("mine"), Erred("TimeoutError: mine")),
        (SystemExit(3), Erred("SystemExit: 3")),
        (KeyboardInterrupt(), Erred("KeyboardInterrupt")),
        (asyncio.CancelledError("mine"), Erred("CancelledError: mine")),
        (OSError("caf\udce9"), Erred("OSError: caf\\udce9")),
        (NodeFailedError("caf\udce9"), Erred("caf\\udce9")),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_a_function_raises_is_the_error(run, kind, error, outcome):
    """Any exception; its own TimeoutError is not called a timeout."""

    def function(**_):
        raise error

    assert await run(kind(function), timeout="1m") == outcome


@BOTH
async def test_a_stop_iteration_is_an_error_like_others(run, kind):
    """A future cannot hold one: the step would never have ended."""
    outcome = await asyncio.wait_for(run(kind(lambda **_: next(iter([])))), 60)
    assert isinstance(outcome, Erred)
    assert "StopIteration" in outcome.message


async def test_sys_exit_in_a_node_does_not_end_the_worker(run):
    """On the loop, in a thread, and inside a commit."""
    for instant in (False, True):
        outcome = await run(lambda: sys.exit(7), instant=instant)
        assert outcome == Erred("SystemExit: 7")


@BOTH
@pytest.mark.parametrize(
    "value",
    [object(), {1, object()}, {(1, 2): 3}, "\ud800", print, 1j],
    ids=["an object", "a set of objects", "a key that is a tuple", "half a pair", "print", "1j"],
)
async def test_an_output_that_is_not_json_fails_for_good(run, kind, value):
    """Another attempt would return the like."""
    outcome = await run(kind(lambda **_: value))
    assert isinstance(outcome, Erred)
    assert outcome.message.startswith("the output is not JSON: ")
    assert not outcome.retryable


@BOTH
async def test_a_number_that_json_cannot_hold_fails_with_its_place(run, kind):
    """In dataclasses and sets too; msgspec would write null."""

    @dataclasses.dataclass
    class Point:
        x: float

    for value, place in [
        ({"p": Point(float("nan"))}, "nan at /p/x"),
        ([{math.inf}], "inf at /0/0"),
    ]:
        assert await run(kind(lambda value=value, **_: value)) == Erred(
            f"the output is not JSON: {place} is not a JSON number", retryable=False
        )
    assert await run(kind(lambda **_: [2**64])) == Erred(
        "the output is not JSON: the integer at /0 does not fit in 64 bits", retryable=False
    )


async def test_parameters_are_not_changed_either(run):
    """Infinity from an expression is refused before the function is called."""
    called: list[Any] = []
    state = ExecutionState(input={"x": math.inf})

    def function(a):
        called.append(a)

    outcome = await run(function, {"a": ["${input.x}"]}, state=state)
    assert outcome == Erred(
        "the parameters are not JSON: inf at /a/0 is not a JSON number", retryable=False
    )
    assert called == []


async def test_an_output_that_contains_itself_fails_for_good(run):
    """It has no end."""
    value: list[Any] = []
    value.append(value)
    outcome = await run(lambda: value)
    assert isinstance(outcome, Erred)
    assert not outcome.retryable


@BOTH
@pytest.mark.parametrize("is_kept", [False, True])
async def test_a_large_output_is_decoded_only_for_expressions(threads, kind, is_kept):
    """To decode megabytes holds the interpreter's lock, and so all executions, for a while."""
    large = "x" * (MAX_VALUE_BYTES + 1)
    found = declared_node(node("under.test")(kind(lambda: large)))
    assert found is not None
    runner = Runner(NodeRegistry([found]), threads, 2 * MAX_VALUE_BYTES, SecretStore())
    planned = PlannedNode("n", Node("under.test"), is_actor=False)
    loop = asyncio.get_running_loop()
    attempt = Attempt("t", "e", StepState("n", attempt=1), loop, lambda: None)
    attempt.keeps_output = is_kept
    outcome = await runner.run(planned, ExecutionState(), attempt)
    output = large if is_kept else msgspec.UNSET
    assert outcome == Succeeded(output, msgspec.json.encode(large))


async def test_a_large_output_counts_while_it_waits_to_be_checked(threads, monkeypatch):
    """Large outputs are checked one after the other; those that wait are in memory, too."""
    large = "x" * (MAX_VALUE_BYTES + 1)
    found = declared_node(node("under.test")(lambda: large))
    assert found is not None
    turn = threading.Lock()
    monkeypatch.setattr("tailrace_worker.engine.run.runner._LARGE_OUTPUTS", turn)
    runner = Runner(NodeRegistry([found]), threads, 2 * MAX_VALUE_BYTES, SecretStore())
    planned = PlannedNode("n", Node("under.test"), is_actor=False)
    budget = OutputBudget(2**63, 3 * MAX_VALUE_BYTES)
    loop = asyncio.get_running_loop()

    async def run_one():
        step = StepState("n", attempt=1)
        attempt = Attempt("t", "e", step, loop, lambda: None, budget=budget)
        return await runner.run(planned, ExecutionState(), attempt)

    with turn:
        runs = [asyncio.create_task(run_one()) for _ in range(3)]
        done, waiting = await asyncio.wait(runs, return_when=asyncio.FIRST_COMPLETED)
    (refused,) = done
    outcome = refused.result()
    assert isinstance(outcome, Erred)
    assert outcome.retryable
    assert "TAILRACE_MAX_TENANT_PENDING_OUTPUT_BYTES" in outcome.message
    assert all(isinstance(each, Succeeded) for each in await asyncio.gather(*waiting))


async def test_an_output_is_at_most_256_kib(run):
    """It must fit an event."""
    largest = "x" * (MAX_VALUE_BYTES - 2)
    assert await run(lambda: largest) == Succeeded(largest)
    outcome = await run(lambda: largest + "x")
    assert outcome == Erred(
        f"the output is {MAX_VALUE_BYTES + 1} bytes; the limit is {MAX_VALUE_BYTES} "
        "(TAILRACE_MAX_OUTPUT_BYTES)",
        retryable=False,
    )


class TestParameters:
    """A definition and a function may differ by a version."""

    async def test_an_unexpected_parameter_fails_for_good(self, run):
        """It is named."""
        assert await run(lambda a: a, {"a": 1, "b": 2, "c": 3}) == Erred(
            "under.test takes no b, c", retryable=False
        )

    async def test_a_missing_parameter_fails_for_good(self, run):
        """All that are missing are named."""
        assert await run(lambda a, b, c=1: [a, b, c], {}) == Erred(
            "under.test needs a, b", retryable=False
        )

    async def test_an_open_function_takes_everything(self, run):
        """Keys need not be identifiers; only ``ctx`` is reserved for the worker."""

        def function(ctx, **fields):
            return [ctx.node_id, fields]

        assert await run(function, {"a b": 1, "ctx": 2}) == Succeeded(["n", {"a b": 1}])

    async def test_an_expression_that_does_not_fit_fails_for_good(self, run):
        """The same values would give the same error."""
        outcome = await run(lambda a: a, {"a": "${input.nothing}"})
        assert isinstance(outcome, Erred)
        assert (outcome.retryable, "input.nothing" in outcome.message) == (False, True)

    async def test_an_unknown_node_type_is_left_to_another_worker(self, threads):
        """The definition may be for other workers."""
        runner = Runner(NodeRegistry([]), threads, MAX_VALUE_BYTES, SecretStore())
        attempt = Attempt("t", "e", StepState("n"), asyncio.get_running_loop(), lambda: None)
        planned = PlannedNode("n", Node("gone"), is_actor=False)
        assert not runner.is_instant(planned)
        outcome = await runner.run(planned, ExecutionState(), attempt)
        assert outcome == Unable("this worker has no node type 'gone'")

    @BOTH
    async def test_a_function_may_mutate_its_parameters(self, run, kind):
        """It gets copies: neither the state of the execution nor the definition changes."""
        state = ExecutionState(input={"items": [1, 2, 3]})
        parameters = {"given": "${input.items}", "literal": {"a": [1]}}

        def function(given, literal):
            given.clear()
            literal["a"].append(2)
            return given

        async def coroutine(given, literal):
            return function(given, literal)

        called = coroutine if kind is as_async else function
        assert await run(called, parameters, state=state) == Succeeded([])
        assert state.input == {"items": [1, 2, 3]}
        assert parameters["literal"] == {"a": [1]}


class TestTimeouts:
    """A timeout is of one attempt."""

    async def test_a_coroutine_is_interrupted(self, run):
        """It may clean up."""
        ended = asyncio.Event()

        async def function():
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        assert await run(function, timeout="20ms") == Erred("timed out after 20ms")
        assert ended.is_set()

    async def test_a_thread_observes_it(self, run):
        """It cannot be interrupted, but the step goes on without it."""
        looked = threading.Event()

        def function(ctx):
            while not ctx.cancelled:
                time.sleep(0.001)
            looked.set()

        assert await run(function, timeout="20ms") == Erred("timed out after 20ms")
        assert await asyncio.to_thread(looked.wait, 60)

    async def test_a_timeout_inside_the_function_is_its_own_error(self, run):
        """It is not mistaken for the timeout of the node."""

        async def function():
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()

        assert await run(function, timeout="1m") == Erred("TimeoutError")

    async def test_a_function_that_is_quick_enough_succeeds(self, run):
        """The timeout leaves no trace."""
        assert await run(lambda: 1, timeout="1m") == Succeeded(1)


class TestCancellation:
    """The drive cancels attempts that are not wanted any more."""

    async def test_a_cancelled_attempt_has_no_outcome(self, run):
        """No caller awaits one."""
        begun: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()

        async def function(ctx):
            begun.set_result(ctx)
            await asyncio.Event().wait()

        task = asyncio.create_task(run(function))
        (await begun).mark_cancelled()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_a_task_of_the_nodes_own_that_was_cancelled_is_an_error(self, run):
        """The attempt has an outcome all the same, or its execution would wait for ever."""

        async def function():
            inner = asyncio.ensure_future(asyncio.Event().wait())
            inner.cancel()
            await inner

        assert await run(function) == Erred("CancelledError")

    async def test_a_node_that_cancels_its_own_task_has_failed(self, run):
        """Only the drive can abandon an attempt."""

        async def function():
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(60)

        assert await run(function, timeout="1m") == Erred("CancelledError")

    async def test_a_coroutine_that_is_closed_ends(self, run):
        """A loop that ends closes its coroutines by GeneratorExit."""
        closed: list[bool] = []

        async def function():
            try:
                await asyncio.Event().wait()
            finally:
                closed.append(True)

        coroutine = run(function)
        coroutine.send(None)
        await asyncio.to_thread(coroutine.close)
        assert closed == [True]


class TestExceptionsOfAnyClass:
    """No class of exception passes between a node function and the log."""

    @BOTH
    @pytest.mark.parametrize("raised", EXCEPTIONS, ids=lambda error: type(error).__name__)
    async def test_it_is_the_end_of_the_attempt(self, run, kind, raised):
        """The retry policy of the step applies."""

        def function(**_):
            raise raised

        for timeout in (None, "1m"):
            outcome = await asyncio.wait_for(run(kind(function), timeout=timeout), 60)
            assert isinstance(outcome, Erred)
            assert outcome.retryable
            assert outcome.message.startswith(type(raised).__name__)

    @pytest.mark.parametrize("raised", EXCEPTIONS, ids=lambda error: type(error).__name__)
    async def test_an_instant_node_has_failed_too(self, run, raised):
        """It runs inside a commit, whose drive goes on."""

        def function():
            raise raised

        outcome = await run(function, instant=True)
        assert isinstance(outcome, Erred)
        assert outcome.retryable

    @BOTH
    @pytest.mark.parametrize("base", [Exception, BaseException, ValueError, GeneratorExit])
    async def test_an_exception_may_raise_when_it_is_shown(self, run, kind, base):
        """Its own text is then missing in the message."""

        def show(_error):
            raise base("no text")

        hostile = type("HostileError", (base,), {"__str__": show, "__repr__": show})

        def function(**_):
            raise hostile

        assert await run(kind(function)) == Erred(
            f"HostileError: (its message cannot be shown: {base.__name__})"
        )

    async def test_a_text_that_is_no_text_is_not_shown(self, run):
        """``str`` refuses what ``__str__`` returns."""

        class NumberError(Exception):
            def __str__(self) -> str:
                return 5  # type: ignore[return-value]  # noqa: PLE0307 - the fault under test

        def function():
            raise NumberError

        outcome = await run(function)
        assert outcome == Erred("NumberError: (its message cannot be shown: TypeError)")

    async def test_the_members_of_a_group_are_named(self, run):
        """The message of a group itself tells only how many there are."""

        def function():
            raise ExceptionGroup(
                "all", [ValueError("a"), ExceptionGroup("inner", [NodeFailedError("b")])]
            )

        assert await run(function) == Erred(
            "ExceptionGroup: all (2 sub-exceptions): ValueError: a; "
            "ExceptionGroup: inner (1 sub-exception): b"
        )

    async def test_a_large_group_is_named_in_part(self, run):
        """The event has a limit."""

        def function():
            raise ExceptionGroup("all", [ValueError(n) for n in range(1000)])

        outcome = await run(function)
        assert outcome.message.endswith("ValueError: 19; 980 more")

    async def test_a_group_is_retried_unless_all_members_refuse_it(self, run):
        """A task group wraps what its tasks raise."""
        final = NodeFailedError("never", retryable=False)

        async def function(members):
            raise ExceptionGroup("g", [final] * members["final"] + [ValueError()] * members["any"])

        assert not (await run(function, {"members": {"final": 2, "any": 0}})).retryable
        assert (await run(function, {"members": {"final": 1, "any": 1}})).retryable

    async def test_a_subclass_need_not_call_the_constructor(self, run):
        """It is retryable like the class itself."""

        class OwnError(NodeFailedError):
            def __init__(self, code):
                self.code = code

            def __str__(self):
                return f"code {self.code}"

        def function():
            raise OwnError(7)

        assert await run(function) == Erred("code 7")


class TestWaiting:
    """A node may let its step wait."""

    @BOTH
    async def test_a_wait_is_an_outcome(self, run, kind):
        """It carries the time at which it ends."""
        assert await run(kind(lambda **_: Wait(1705314600.0))) == Wait(1705314600.0)

    @pytest.mark.parametrize("until", [float("inf"), float("nan"), 1e18, -1e18, "noon"])
    async def test_a_time_that_there_is_not_fails_for_good(self, run, until):
        """It could not be written into the log."""
        outcome = await run(lambda: Wait(until))
        assert outcome == Erred(f"there is no time {until!r} to wait for", retryable=False)


async def test_instant_nodes_run_where_they_are_called(run):
    """No thread, no loop; their outcomes are the same."""
    here = threading.get_ident()
    assert await run(lambda: threading.get_ident() == here, instant=True) == Succeeded(output=True)
    assert await run(lambda: {"a": (1,)}, instant=True) == Succeeded({"a": [1]})
    assert await run(lambda: 1 / 0, instant=True) == Erred("ZeroDivisionError: division by zero")


async def test_synchronous_functions_run_beside_each_other(run):
    """Off the event loop, each in a thread."""
    together = threading.Barrier(3)
    outcomes = await asyncio.gather(
        *(run(lambda: together.wait(60) >= 0 and threading.get_ident()) for _ in range(3))
    )
    idents = {outcome.output for outcome in outcomes}
    assert len(idents) == 3
    assert threading.get_ident() not in idents


class Marks(SensitivityMarks):
    """Marks one text as sensitive."""

    def __init__(self):
        pass

    def parameter_pointers(self, step_id, name, value):
        del step_id, name
        return [""] if value == "4111-1111" else []


@pytest.mark.parametrize(
    ("id_", "is_refused"),
    [("${input.card}", True), ("4111-1111", False), ("${input.other}", False)],
)
async def test_a_child_run_has_no_sensitive_id(threads, id_, is_refused):
    """Lists of runs show the ids of workflows. What the definition has in clear is no secret."""
    function = declared_node(workflow)
    assert function is not None
    runner = Runner(NodeRegistry([function]), threads, MAX_VALUE_BYTES, SecretStore())
    planned = PlannedNode("n", Node("workflow", parameters={"id": id_}), is_actor=False)
    attempt = Attempt("t", "e", StepState("n"), asyncio.get_running_loop(), lambda: None)
    attempt.sensitivity = Marks()
    state = ExecutionState(input={"card": "4111-1111", "other": "paid"})
    outcome = runner.run_instant(planned, state, attempt)
    assert isinstance(outcome, Erred if is_refused else ForChild)
    if isinstance(outcome, Erred):
        assert (outcome.retryable, "4111" in outcome.message) == (False, False)
