"""Run NATS, API replicas and workers on one machine as supervised processes."""
