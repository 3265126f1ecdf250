"""Workflows, logs and traces made for tests."""
