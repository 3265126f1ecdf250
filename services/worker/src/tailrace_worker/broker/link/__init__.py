"""The broker's connection to NATS: publishing, pulling and acknowledging on one event loop."""
