"""Tailrace's worker: the durable engine, its node types, and a Dramatiq broker on JetStream."""
