"""Executions: their events, the state that the events fold to, and commands. Pure."""
