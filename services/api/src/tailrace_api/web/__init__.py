"""Declared operations: bodies, queries, problems and the API description."""
