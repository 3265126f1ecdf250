"""Serve each open stream by one connection, from its first byte to its end."""
