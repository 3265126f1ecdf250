"""Secrets: where workers read them, and their redaction from results."""
