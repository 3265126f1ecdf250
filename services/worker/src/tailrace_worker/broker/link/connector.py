"""Open the one broker connection of a process at first use, and again after a fork."""

import os
import threading
import weakref

from dramatiq.errors import ConnectionClosed

from tailrace_shared.subjects import Subjects
from tailrace_worker.broker.counts import new_counts
from tailrace_worker.broker.link.connection import BrokerConnection
from tailrace_worker.broker.link.link import ConnectionOptions


class Connector:
    """Opens the connection when it is needed, and closes it.

    Attributes:
        counts: the counts of each queue in this process, over all its connections.
    """

    def __init__(self, options: ConnectionOptions) -> None:
        self.options = options
        self.subjects = Subjects(options.settings.prefix)
        self.counts = new_counts()
        self._lock = threading.Lock()
        self._connection: BrokerConnection | None = None
        self._is_closed = False
        _connectors.add(self)

    def get(self) -> BrokerConnection:
        """Return the connection; open it if there is none that is usable.

        Raises:
            ConnectionFailed: it cannot be opened.
            ConnectionClosed: the connector was closed.
        """
        connection = self._connection
        if connection is not None and connection.is_usable:
            return connection
        with self._lock:
            if self._is_closed:
                raise ConnectionClosed("the broker is closed")
            if self._connection is None or not self._connection.is_usable:
                self._connection = BrokerConnection(self.options, self.counts)
            return self._connection

    @property
    def failure(self) -> str:
        """Why the open connection does not work, as a sentence; empty if it does."""
        connection = self._connection
        is_open = connection is not None and connection.is_usable
        return connection.link.pulse.failure() if connection is not None and is_open else ""

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._connection is not None and self._connection.process == os.getpid():
                self._connection.close()

    def forget(self) -> None:
        """Drop the parent's connection, in a forked child."""
        self._lock = threading.Lock()
        self._connection = None
        self.counts.clear()


_connectors: "weakref.WeakSet[Connector]" = weakref.WeakSet()


def _forget_connections() -> None:
    for connector in _connectors:
        connector.forget()


# A forked child has no loop thread, and another thread may have held a lock at the fork.
os.register_at_fork(after_in_child=_forget_connections)
