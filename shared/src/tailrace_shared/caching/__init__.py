"""Caches and single-flight calls on one event loop, without I/O of their own."""
