"""Approval against timeout against cancel, a thousand times: one wins, the others are refused.

The three come within the same few milliseconds. The accepted request must be what the log says
happened, and each refused caller must have learned the true reason.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Final

import pytest

from harness.campaigns.campaign import Campaign, campaign
from harness.generators.random_workflows import checked
from harness.models.log_reading import Record
from harness.nats.deployment import NatsDeployment
from harness.processes.installation import TENANT
from tailrace_shared.commands import time_limit
from tailrace_shared.commands.execution_commands import Caller, Decision
from tailrace_shared.errors import IllegalCommandError
from tailrace_shared.execution.events import CommandRequested, StepCompleted
from tailrace_shared.execution.state import fold

RACES: Final = int(os.environ.get("PROOF_RACES", "1000"))
AT_ONCE: Final = 50
TIMEOUT: Final = 0.5
OFFSETS: Final = (-0.04, -0.02, -0.01, 0.0, 0.01)
STEP: Final = 0.005
_ANSWER_S: Final = 120.0


class Aim:
    """The moments of the two requests, which follow the outcomes.

    A timeout fires late on a busy machine, and an approval reads more than a cancel before it is
    recorded. So neither moment can be fixed: what wins too often comes later next time. All three
    outcomes stay possible, however busy the machine is.

    Attributes:
        shift: the distance of both requests from the timeout, in s.
        lead: how much earlier than the cancel the approval is sent, in s.
    """

    def __init__(self) -> None:
        self.shift = 0.0
        self.lead = 0.0

    def learn(self, outcome: str) -> None:
        """Take into account how a race ended."""
        # Of three outcomes one is a timeout.
        self.shift += -2 * STEP if outcome == "timeout" else STEP
        self.shift = min(max(self.shift, -TIMEOUT), 20 * TIMEOUT)
        if outcome != "timeout":
            self.lead += STEP if outcome == "cancelled" else -STEP


@pytest.fixture
async def arena(
    isolated_nats: NatsDeployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Campaign]:
    """A campaign with two workers, to each of which a job may go."""
    # Each request is answered, however busy the machine is.
    monkeypatch.setattr(time_limit, "LIMIT_S", _ANSWER_S)
    async with campaign(isolated_nats, tmp_path, seed=2) as opened:
        opened.worker()
        opened.worker()
        yield opened


@pytest.mark.timeout(300)  # a thousand races, fifty at a time
async def test_of_approval_timeout_and_cancel_one_wins_and_the_others_are_refused(arena: Campaign):
    """In any order, the log has one outcome, and every answer agrees with it."""
    nodes = {
        "ask": {"type": "await", "timeout": f"{TIMEOUT * 1000:.0f}ms", "on_timeout": "continue"}
    }
    workflow = await arena.store(checked({"id": "race", "nodes": nodes}))
    answers: dict[str, tuple[str, str]] = {}
    lanes = asyncio.Semaphore(AT_ONCE)
    aim = Aim()

    async def race(index: int) -> None:
        async with lanes:
            execution = await arena.start(workflow)
            answers[execution] = said = await run_race(arena, execution, index, aim)
            aim.learn(winner(*said))

    await asyncio.gather(*(race(index) for index in range(RACES)))
    records = await arena.settled(200)
    await arena.check(records)
    outcomes = Counter(agreed(records[execution], *said) for execution, said in answers.items())
    assert outcomes.total() == RACES
    # A race that always ends alike would be none.
    assert min(outcomes[each] for each in ("approved", "timeout", "cancelled")) > RACES / 50, (
        outcomes
    )


async def run_race(arena: Campaign, execution: str, index: int, aim: Aim) -> tuple[str, str]:
    """Approve and cancel around the moment of the timeout; return both answers."""
    loop = asyncio.get_running_loop()
    await arena.site.until(execution, lambda events: len(events) >= 4, 120)
    begin = loop.time() + TIMEOUT + aim.shift
    approves_at = begin - aim.lead + OFFSETS[index % 5]
    cancels_at = begin + OFFSETS[index // 5 % 5]

    async def approve() -> str:
        await until(approves_at)
        decision = Decision("ask", "approved", {"n": index})
        return await answer_of(arena.commander.resolve(TENANT, execution, decision, Caller("ann")))

    async def cancel() -> str:
        await until(cancels_at)
        return await answer_of(arena.commander.cancel(TENANT, execution, "too late", Caller("bob")))

    approved, cancelled = await asyncio.gather(approve(), cancel())
    return approved, cancelled


def winner(approve: str, cancel: str) -> str:
    """Return the winner by the answers that the two callers got."""
    if approve == "accepted":
        return "approved"
    return "cancelled" if cancel == "accepted" else "timeout"


async def until(moment: float) -> None:
    """Wait for a moment of the loop's clock."""
    await asyncio.sleep(moment - asyncio.get_running_loop().time())


async def answer_of(request: Awaitable[object]) -> str:
    """Return ``accepted``, or the reason of the refusal: what the API puts into its 409."""
    try:
        await request
    except IllegalCommandError as error:
        return str(error)
    return "accepted"


def agreed(record: Record, approve: str, cancel: str) -> str:
    """Assert that the answers agree with the log; return what won."""
    state = fold(record.events)
    commands = [e.data for e in record.events if isinstance(e, CommandRequested)]
    accepted = {data.command for data in commands}
    assert (approve == "accepted") == ("resolve" in accepted), (approve, commands)
    assert (cancel == "accepted") == ("cancel" in accepted), (cancel, commands)
    ends = [e.data for e in record.events if isinstance(e, StepCompleted)]
    assert len(ends) <= 1
    outcome = ends[0].output["decision"] if ends else "cancelled"
    assert (outcome == "approved") == (approve == "accepted"), (outcome, approve)
    assert state.status == ("cancelled" if cancel == "accepted" else "completed")
    if approve != "accepted":
        reasons = {
            "timeout": ("is success", "is completed", "is cancelled", "is being cancelled"),
            "cancelled": ("is being cancelled", "is cancelled"),
        }
        assert any(reason in approve for reason in reasons[outcome]), (outcome, approve)
    if cancel != "accepted":
        assert "is completed" in cancel, cancel
    return outcome
