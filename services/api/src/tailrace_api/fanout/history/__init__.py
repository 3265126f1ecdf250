"""History: events that a client receives from the log before its topic's ring takes over."""
