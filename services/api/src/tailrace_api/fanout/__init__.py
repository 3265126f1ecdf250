"""Deliver each commit of the log to every client that follows it."""
