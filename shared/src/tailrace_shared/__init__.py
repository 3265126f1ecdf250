"""What Tailrace's services agree on: events, definitions, the fold, subjects, topology, the log."""
