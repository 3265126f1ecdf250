"""HTTP/1.1: request limits, deadlines, and direct writes of event streams."""
