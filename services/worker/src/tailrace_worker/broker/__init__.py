"""A Dramatiq broker on NATS JetStream; ``broker`` has its theory of operation."""

from tailrace_worker.broker.broker import NatsBroker
from tailrace_worker.broker.encoder import MsgspecEncoder

__all__ = ["MsgspecEncoder", "NatsBroker"]
