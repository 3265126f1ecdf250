"""Fan-out: from the log and its live subjects to every connection that follows an execution."""
