"""Indexes derived from the event log, each in a key-value bucket."""
