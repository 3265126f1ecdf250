"""The module that Dramatiq's own command runs: ``dramatiq tailrace_worker.actors``."""

from tailrace_worker.bootstrap import build

parts = build()
broker = parts.broker
