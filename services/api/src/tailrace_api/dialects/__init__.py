"""Dialects: the formats of streams, as pure functions of events."""
