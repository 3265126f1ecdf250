"""The backlog: what slow clients have yet to take.

A broadcast is the same bytes for all of them, and those lie in memory once, however many clients
have yet to take them. So each piece is counted once.
"""


class SlowClientBuffer:
    """Pieces of bytes that are held for slow clients, within a limit.

    Args:
        most: how many bytes may be held.

    Attributes:
        bytes: how many are.
    """

    def __init__(self, most: int) -> None:
        self.bytes = 0
        self._most = most
        self._held: dict[int, tuple[bytes, int]] = {}

    def hold(self, piece: bytes) -> bool:
        """Hold a piece for one more client; returns whether that is within the limit.

        It is to be released in either case. A piece that is held already is always within.
        """
        _, holders = self._held.get(id(piece), (piece, 0))
        # The reference keeps the id from being anybody else's.
        self._held[id(piece)] = (piece, holders + 1)
        if holders:
            return True
        self.bytes += len(piece)
        return self.bytes <= self._most

    def release(self, piece: bytes) -> None:
        """Hold a piece for one client less."""
        _, holders = self._held.pop(id(piece))
        if holders > 1:
            self._held[id(piece)] = (piece, holders - 1)
        else:
            self.bytes -= len(piece)
