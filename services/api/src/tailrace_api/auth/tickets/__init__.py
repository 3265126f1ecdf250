"""Tickets: short-lived credentials that open one stream from a URL."""
