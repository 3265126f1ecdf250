"""NATS, hubs and clients in memory, in virtual time."""
