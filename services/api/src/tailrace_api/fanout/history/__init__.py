"""Send a client the events of the log that precede those in the ring of its topic."""
