"""Outputs that are too large for an event."""

import msgspec
import pytest

from tailrace_shared.errors import OutputNotFoundError, OutputTooLargeError
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import OUTPUTS
from tailrace_shared.stores.output_store import OutputStore

LIMIT = 16 * 1024 * 1024


@pytest.fixture
def store(site):
    return OutputStore(site.jetstream, site.subjects, LIMIT)


async def put(store, value, step="n"):
    """Store an output."""
    return await store.put("t", "e", step, 1, msgspec.json.encode(value))


@pytest.mark.parametrize(
    "length", [0, 512 * 1024 - 3, 512 * 1024 - 2, 512 * 1024 - 1, 3_000_000, LIMIT - 2]
)
async def test_an_output_is_read_back_unchanged(store, length):
    """This holds for every length of its last chunk."""
    value = ("0123456789" * (length // 10 + 1))[:length]
    ref = await put(store, value)
    assert ref.bytes == length + 2
    assert await store.get(ref) == value


async def test_outputs_of_two_attempts_never_mix(store):
    """The attempts may have the same number, if a displaced worker writes one of them."""
    first, second = await put(store, "a" * 600_000), await put(store, "b" * 600_000)
    assert await store.get(first) == "a" * 600_000
    assert await store.get(second) == "b" * 600_000


async def test_an_output_beyond_the_limit_is_refused(site, store):
    """Before anything is stored."""
    with pytest.raises(OutputTooLargeError, match="'n' in attempt 1 is 16777217 bytes of JSON"):
        await put(store, "x" * (LIMIT - 1))
    assert await site.count(site.subjects.stream(OUTPUTS)) == 0


async def test_an_expired_output_is_not_found(site, store):
    """An output with a missing chunk is not found either."""
    ref = await put(store, "x" * 1_500_000)
    stream = site.subjects.stream(OUTPUTS)
    _tenant, _execution, name = ref.object.split(".")
    subject = site.subjects.output("t", "e", name, 1)
    await site.jetstream.api(f"STREAM.PURGE.{stream}", {"filter": subject})
    with pytest.raises(OutputNotFoundError):
        await store.get(ref)


class TestFetch:
    """Fetching outputs that expressions use."""

    async def stored_step(self, store, node, value, **fields):
        """Return a step whose output is stored apart."""
        step = StepState(node, status="success", **fields)
        step.output, step.output_ref = msgspec.UNSET, await put(store, value, node)
        return step

    async def test_outputs_are_filled_in(self, store):
        """All, or those of the given nodes; unknown nodes are ignored."""
        state = ExecutionState("e")
        for node in ("a", "b"):
            state.steps[node] = await self.stored_step(store, node, [node])
        state.steps["c"] = StepState("c", status="success", output=1)
        await store.fetch(state, {"a", "c", "never"})
        assert (state.steps["a"].output, state.steps["b"].output) == (["a"], msgspec.UNSET)
        await store.fetch(state)
        assert [state.steps[node].output for node in "abc"] == [["a"], ["b"], 1]

    async def test_the_output_of_a_map_is_gathered_from_its_items(self, store):
        """Inline outputs, stored outputs and errors."""
        state = ExecutionState("e")
        whole = StepState("m", status="success", items=[1, 2, 3], output_omitted=True)
        whole.output = msgspec.UNSET
        state.steps["m"] = whole
        state.steps["m[0]"] = StepState("m[0]", status="success", output="here")
        state.steps["m[1]"] = await self.stored_step(store, "m[1]", "stored")
        state.steps["m[2]"] = StepState("m[2]", status="error", error="broke")
        await store.fetch(state, ["m"])
        assert whole.output == ["here", "stored", {"error": "broke"}]


async def test_an_output_is_gone_only_if_the_leader_proves_it(store, monkeypatch):
    """A leader whose disk is full says that it has nothing before it gives up."""
    ref = await put(store, "a" * 600_000)
    read, answers = JetStream._get_from_leader, 0

    async def has_nothing(*_args):
        return [], 0

    async def has_nothing_at_first(*args):
        nonlocal answers
        answers += 1
        return None if answers % 2 else await read(*args)

    monkeypatch.setattr(JetStream, "batch", has_nothing)
    monkeypatch.setattr(JetStream, "_get_from_leader", has_nothing_at_first)
    assert await store.get(ref) == "a" * 600_000
