"""The formats of streams (dialects), as pure functions of events."""
