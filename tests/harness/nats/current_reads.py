"""Reads that miss nothing of what the leader of a stream holds.

Any replica answers a read of many messages, and on three nodes it may lag behind the leader by some
milliseconds. A test that has seen an event and reads the log afterwards must not judge such an
answer.
"""

from tailrace_shared.nats.catch_up import until_caught_up
from tailrace_shared.nats.jetstream import JetStream, StoredMessage
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.log_records import Commit
from tailrace_shared.subjects import LogFilter


async def current_messages(jetstream: JetStream, stream: str, subject: str) -> list[StoredMessage]:
    """Return the messages on a subject, up to the newest of the leader."""

    async def read() -> tuple[list[StoredMessage], int]:
        # The leader comes first in each attempt: its newest message may be removed meanwhile.
        newest = await jetstream.get_newest(stream, {"last_by_subj": subject})
        found = [message async for message in jetstream.read(stream, subject, 1)]
        return found, newest.sequence if newest else 0

    found, _newest = await until_caught_up(
        read, lambda answer: _last(answer[0]) >= answer[1], f"subject {subject!r}"
    )
    return found


async def current_commits(
    log: ExecutionLog, tenant: str, execution: str, from_sequence: int = 1
) -> list[Commit]:
    """Return the commits of an execution from a sequence on, up to the newest of the leader."""
    newest = await log.newest(LogFilter(tenant, execution))
    needed = newest.sequence if newest and newest.sequence >= from_sequence else 0

    async def read() -> list[Commit]:
        return [commit async for commit in log.read(tenant, execution, from_sequence)]

    return await until_caught_up(
        read, lambda commits: _last(commits) >= needed, f"execution {execution!r}"
    )


def _last(found: list[StoredMessage] | list[Commit]) -> int:
    return found[-1].sequence if found else 0
