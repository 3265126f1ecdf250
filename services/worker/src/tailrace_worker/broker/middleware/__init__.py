"""Dramatiq middleware: metrics and trace context."""
