"""The connection to NATS: credentials, TLS and nats-py's client."""
