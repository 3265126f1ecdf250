"""A Dramatiq broker on NATS JetStream; see ``broker`` for how it works."""

from tailrace_worker.broker.broker import NatsBroker

__all__ = ["NatsBroker"]
