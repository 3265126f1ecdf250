"""Decisions of the engine: what happens next in an execution. Pure."""
