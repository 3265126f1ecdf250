"""The newest commits of a tenant, in the order of the log and by execution."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from tailrace_api.fanout.topics.memory_budget import MemoryAccount
from tailrace_api.fanout.views.view import Logged

_COMMIT_BYTES: Final = 400


class CommitWindow:
    """All commits of a tenant from a sequence on.

    Args:
        account: accounts for the memory of the commits.

    Attributes:
        floor: the first of these sequences; 0 until it has begun.
    """

    def __init__(self, account: MemoryAccount) -> None:
        self.floor = 0
        self._account = account
        self._commits: deque[Logged] = deque()
        # The same ones: thousands of topics look only at those of their execution.
        self._by_execution: dict[str, list[Logged]] = {}
        self._bytes = 0

    @property
    def oldest(self) -> Logged | None:
        return self._commits[0] if self._commits else None

    def begin(self, floor: int) -> None:
        """Set the first sequence, unless it is known."""
        self.floor = self.floor or floor

    def since(self, first: int, execution: str = "") -> list[Logged]:
        """Return the commits from a sequence on.

        Args:
            first: the sequence.
            execution: the execution of these commits; empty for all.
        """
        commits = self._by_execution.get(execution, ()) if execution else self._commits
        return [commit for commit in commits if commit.sequence >= first]

    def append(self, commit: Logged) -> None:
        """Add a commit that is newer than all others."""
        self.begin(commit.sequence)
        self._commits.append(commit)
        self._by_execution.setdefault(commit.execution, []).append(commit)
        self._count(len(commit.payload) + _COMMIT_BYTES)

    def prepend(self, commits: Sequence[Logged], floor: int) -> None:
        """Add all commits from a sequence up to the first one here."""
        before: dict[str, list[Logged]] = {}
        for commit in commits:
            before.setdefault(commit.execution, []).append(commit)
            self._count(len(commit.payload) + _COMMIT_BYTES)
        for execution, older in before.items():
            self._by_execution[execution] = older + self._by_execution.get(execution, [])
        self._commits.extendleft(reversed(commits))
        self.floor = min(self.floor, floor)

    def trim(self, most: int, most_bytes: int) -> None:
        """Drop the oldest commits until as many are left, and as many bytes."""
        while self._commits and (len(self._commits) > most or self._bytes > most_bytes):
            oldest = self._commits.popleft()
            of_execution = self._by_execution[oldest.execution]
            del of_execution[0]
            if not of_execution:
                del self._by_execution[oldest.execution]
            self.floor = oldest.sequence + 1
            self._count(-len(oldest.payload) - _COMMIT_BYTES)

    def _count(self, size: int) -> None:
        self._bytes += size
        self._account.add(size)
