"""Outputs that are too large for an event."""

import msgspec
import pytest

from tailrace_shared.errors import OutputNotFoundError, OutputTooLargeError
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.nats.topology import OUTPUTS
from tailrace_shared.stores.output_store import OutputStore

LIMIT = 16 * 1024 * 1024


@pytest.fixture
def store(site):
    """A store as a worker has it."""
    return OutputStore(site.jetstream, site.subjects, LIMIT)


async def put(store, value, step="n"):
    """Keep an output."""
    return await store.put("t", "e", step, 1, msgspec.json.encode(value))


@pytest.mark.parametrize(
    "length", [0, 512 * 1024 - 3, 512 * 1024 - 2, 512 * 1024 - 1, 3_000_000, LIMIT - 2]
)
async def test_an_output_comes_back_whole(store, length):
    """Whatever part of a chunk its end fills."""
    value = ("0123456789" * (length // 10 + 1))[:length]
    ref = await put(store, value)
    assert ref.bytes == length + 2
    assert await store.get(ref) == value


async def test_two_attempts_never_mix(store):
    """Not even of the same number, by a worker that does not know that it is displaced."""
    first, second = await put(store, "a" * 600_000), await put(store, "b" * 600_000)
    assert await store.get(first) == "a" * 600_000
    assert await store.get(second) == "b" * 600_000


async def test_too_large_an_output_is_refused(site, store):
    """Before anything is stored."""
    with pytest.raises(OutputTooLargeError, match="'n' in attempt 1 is 16777217 bytes of JSON"):
        await put(store, "x" * (LIMIT - 1))
    assert await site.count(site.subjects.stream(OUTPUTS)) == 0


async def test_an_output_that_has_expired_is_not_found(site, store):
    """Nor is one of which a part is missing."""
    ref = await put(store, "x" * 1_500_000)
    stream = site.subjects.stream(OUTPUTS)
    _tenant, _execution, name = ref.object.split(".")
    subject = site.subjects.output("t", "e", name, 1)
    await site.jetstream.api(f"STREAM.PURGE.{stream}", {"filter": subject})
    with pytest.raises(OutputNotFoundError):
        await store.get(ref)


class TestFetch:
    """Filling in what expressions name."""

    async def kept(self, store, node, value, **fields):
        """Return a step whose output is kept elsewhere."""
        step = StepState(node, status="success", **fields)
        step.output, step.output_ref = msgspec.UNSET, await put(store, value, node)
        return step

    async def test_outputs_are_filled_in(self, store):
        """All, or only those that are asked for; unknown nodes are passed over."""
        state = ExecutionState("e")
        for node in ("a", "b"):
            state.steps[node] = await self.kept(store, node, [node])
        state.steps["c"] = StepState("c", status="success", output=1)
        await store.fetch(state, {"a", "c", "never"})
        assert (state.steps["a"].output, state.steps["b"].output) == (["a"], msgspec.UNSET)
        await store.fetch(state)
        assert [state.steps[node].output for node in "abc"] == [["a"], ["b"], 1]

    async def test_the_output_of_a_map_is_gathered_from_its_items(self, store):
        """Those that are here and those that are kept, and the errors."""
        state = ExecutionState("e")
        whole = StepState("m", status="success", items=[1, 2, 3], output_omitted=True)
        whole.output = msgspec.UNSET
        state.steps["m"] = whole
        state.steps["m[0]"] = StepState("m[0]", status="success", output="here")
        state.steps["m[1]"] = await self.kept(store, "m[1]", "kept")
        state.steps["m[2]"] = StepState("m[2]", status="error", error="broke")
        await store.fetch(state, ["m"])
        assert whole.output == ["here", "kept", {"error": "broke"}]
