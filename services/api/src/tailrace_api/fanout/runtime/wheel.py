"""A timer wheel: many deadlines, one clock.

A wheel has slots, one per tick. Setting, moving or removing a deadline moves an entry between sets,
so the cost per second is proportional to the entries that are due, not to all entries. An entry
whose deadline is further away than one revolution waits in the last slot and is rescheduled there.

Pure: callers pass the time. Deadlines fire up to one tick late, and never early.
"""


class WheelEntry:
    """The base of objects with a deadline.

    Attributes:
        due: the deadline. Only the wheel sets it.
        slot: the slot that holds the entry, -1 without a deadline. Only the wheel sets it.
    """

    __slots__ = ("due", "slot")

    def __init__(self) -> None:
        self.due = 0.0
        self.slot = -1

    def on_deadline(self) -> None:
        """Handle the deadline; the entry has none any more unless this sets one."""
        raise NotImplementedError


class TimerWheel:
    """The deadlines of entries, at most one per entry."""

    def __init__(self, now: float, *, tick: float, slots: int) -> None:
        self.tick = tick
        self._started_at = now
        self._ticks_passed = 0
        self._slots: list[set[WheelEntry]] = [set() for _ in range(slots)]
        self._entries = 0

    def __len__(self) -> int:
        return self._entries

    def schedule(self, entry: WheelEntry, due: float) -> None:
        """Set the deadline of an entry, replacing an earlier one."""
        self.cancel(entry)
        entry.due = due
        # Rounded up: a slot is served when its tick has passed completely.
        ahead = int((due - self._started_at) / self.tick) + 1 - self._ticks_passed
        ahead = max(1, min(ahead, len(self._slots) - 1))
        entry.slot = (self._ticks_passed + ahead) % len(self._slots)
        self._slots[entry.slot].add(entry)
        self._entries += 1

    def cancel(self, entry: WheelEntry) -> None:
        if entry.slot >= 0:
            self._slots[entry.slot].discard(entry)
            entry.slot = -1
            self._entries -= 1

    def advance(self, now: float) -> list[WheelEntry]:
        """Return all entries that are due, and remove their deadlines."""
        target = int((now - self._started_at) / self.tick)
        # After a long pause of the process, one revolution serves every slot.
        self._ticks_passed = max(self._ticks_passed, target - len(self._slots))
        due = []
        while self._ticks_passed < target:
            self._ticks_passed += 1
            for entry in tuple(self._slots[self._ticks_passed % len(self._slots)]):
                if entry.due <= now:
                    self.cancel(entry)
                    due.append(entry)
                else:
                    self.schedule(entry, entry.due)
        return due
