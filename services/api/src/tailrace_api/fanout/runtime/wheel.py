"""A timer wheel: many deadlines, one clock.

A wheel has slots, each for one tick of time. To set, move or remove a deadline is to put an entry
into another set, so ten thousand connections cost no more a second than those of them that are
due. A deadline further away than one turn waits in the last slot and is looked at again there.

Pure: it is told the time. Deadlines are met late, by up to a tick, and never early.
"""

from typing import Generic, Protocol, TypeVar


class Timed(Protocol):
    """What can have a deadline.

    Attributes:
        due: the deadline; for the wheel alone to set.
        slot: where it is kept; -1 if it has no deadline. For the wheel alone to set.
    """

    due: float
    slot: int


T = TypeVar("T", bound=Timed)


class TimerWheel(Generic[T]):
    """The deadlines of entries, each with one at the most.

    Args:
        now: the time.
        tick: seconds that one slot stands for.
        slots: how many slots there are.
    """

    def __init__(self, now: float, *, tick: float, slots: int) -> None:
        self.tick = tick
        self._began = now
        # How many ticks have passed, all of their slots served.
        self._passed = 0
        self._slots: list[set[T]] = [set() for _ in range(slots)]
        self._entries = 0

    def __len__(self) -> int:
        return self._entries

    def schedule(self, entry: T, due: float) -> None:
        """Give an entry a deadline, instead of the one that it had."""
        self.cancel(entry)
        entry.due = due
        # Rounded up: the slot is served when its tick has passed whole.
        ahead = int((due - self._began) / self.tick) + 1 - self._passed
        ahead = max(1, min(ahead, len(self._slots) - 1))
        entry.slot = (self._passed + ahead) % len(self._slots)
        self._slots[entry.slot].add(entry)
        self._entries += 1

    def cancel(self, entry: T) -> None:
        """Take the deadline of an entry away, if it has one."""
        if entry.slot >= 0:
            self._slots[entry.slot].discard(entry)
            entry.slot = -1
            self._entries -= 1

    def advance(self, now: float) -> list[T]:
        """Return all entries that are due; they have no deadline any more."""
        target = int((now - self._began) / self.tick)
        # After a long stop of the process, one turn serves every slot.
        self._passed = max(self._passed, target - len(self._slots))
        found = []
        while self._passed < target:
            self._passed += 1
            for entry in tuple(self._slots[self._passed % len(self._slots)]):
                if entry.due <= now:
                    self.cancel(entry)
                    found.append(entry)
                else:
                    self.schedule(entry, entry.due)
        return found
