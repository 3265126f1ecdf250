"""Tickets: short-lived credentials that open one stream by its URL."""
