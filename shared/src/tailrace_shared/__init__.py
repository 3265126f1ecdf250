"""Code shared by the API and the worker: definitions, events, stores and NATS access."""
