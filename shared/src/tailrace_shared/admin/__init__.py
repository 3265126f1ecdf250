"""Commands for operators that talk to NATS directly: ``python -m tailrace_shared.admin``."""
