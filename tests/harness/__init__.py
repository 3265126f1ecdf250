"""Real parts for tests: a NATS server of one's own, services as processes, raw SSE sockets."""
