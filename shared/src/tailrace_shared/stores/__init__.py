"""The stores of an installation: the event log, definitions, outputs and indexes."""
