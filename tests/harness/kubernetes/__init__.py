"""Helm and what charts render."""
