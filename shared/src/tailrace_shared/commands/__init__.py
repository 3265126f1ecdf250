"""Start, signal and control executions, within limits."""
