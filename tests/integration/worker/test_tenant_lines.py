"""Lines of tenants that have more to do than a worker may do for them at once."""

import hashlib
import time

import pytest

from tailrace_shared.due_index import DueIndex
from tailrace_shared.line import Line
from tailrace_worker.engine.share import FairShare
from tailrace_worker.engine.tenant_lines import TenantLines


class Ground:
    """The lines of one worker, and what it gives jobs to."""

    def __init__(self, site):
        self.line = Line(site.jetstream, site.subjects)
        self.jobs = []
        self.refuses = False
        due = DueIndex(site.jetstream, site.subjects)
        self.lines = TenantLines(FairShare(8), self.line, due, self.advance, time.time)

    async def advance(self, tenant, execution):
        """Take a job; a worker that is full by now has it stand in line again before all else."""
        self.jobs.append(execution)
        if self.refuses:
            self.refuses = False
            await self.line.join(_name(tenant), tenant, execution)


def _name(tenant):
    return hashlib.sha256(f"share {tenant}".encode()).hexdigest()[:32]


@pytest.fixture
def ground(site):
    """Nobody stands in line."""
    return Ground(site)


async def test_one_that_stands_in_line_is_called_once_there_is_room(ground):
    """And has no place in the line any more."""
    await ground.lines.join("t", "a")
    assert ground.jobs == ["a"]
    assert await ground.line.first(_name("t")) is None


async def test_one_that_is_called_and_refused_at_once_keeps_its_place(ground):
    """It was called when there was room, and there is none when its job comes."""
    ground.refuses = True
    await ground.lines.join("t", "a")
    assert await ground.line.first(_name("t")) == ("t", "a")
    await ground.lines.call_next("t")
    assert ground.jobs == ["a", "a"]
