"""Tailrace on one machine: NATS, API replicas and workers as supervised processes."""
