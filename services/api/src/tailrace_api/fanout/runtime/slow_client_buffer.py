"""Account for bytes that slow clients have not read yet, and limit them.

A broadcast is one bytes object in memory, however many clients have not read it. So each object
counts once.
"""


class SlowClientBuffer:
    """Counts bytes held for slow clients against a limit."""

    def __init__(self, max_bytes: int) -> None:
        self.bytes = 0
        self._max_bytes = max_bytes
        self._held: dict[int, tuple[bytes, int]] = {}

    def hold(self, piece: bytes) -> bool:
        """Hold a piece for one more client; return whether the limit is respected.

        The caller must release the piece in either case. A piece that is already held is always
        within the limit.
        """
        _, holders = self._held.get(id(piece), (piece, 0))
        # The reference keeps the object alive, so its id stays unique.
        self._held[id(piece)] = (piece, holders + 1)
        if holders:
            return True
        self.bytes += len(piece)
        return self.bytes <= self._max_bytes

    def release(self, piece: bytes) -> None:
        """Hold a piece for one client less."""
        _, holders = self._held.pop(id(piece))
        if holders > 1:
            self._held[id(piece)] = (piece, holders - 1)
        else:
            self.bytes -= len(piece)
