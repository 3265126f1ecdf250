"""The worker as a module for Dramatiq's own command: ``dramatiq tailrace_worker.actors``."""

from tailrace_worker.bootstrap import build

parts = build()
broker = parts.broker
