"""What an installation stores in NATS: the event log, definitions, outputs and indexes."""
