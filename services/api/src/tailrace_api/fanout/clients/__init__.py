"""Clients: connections, their quotas, backpressure and drain."""
