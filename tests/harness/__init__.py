"""Shared parts of the tests; ``tests/README.md`` describes the packages."""
