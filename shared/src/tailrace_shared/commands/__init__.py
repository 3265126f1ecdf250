"""What callers ask of executions: start, signal and control them, within limits."""
