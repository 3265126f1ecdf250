"""Driving one execution: read its log, decide, append, and act."""
