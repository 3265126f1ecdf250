"""Clients: one connection for each open stream, from its first byte to its end."""
