"""A Dramatiq broker on NATS JetStream; see ``broker`` for how it works."""

from tailrace_worker.broker.broker import NatsBroker
from tailrace_worker.broker.encoder import MsgspecEncoder

__all__ = ["MsgspecEncoder", "NatsBroker"]
