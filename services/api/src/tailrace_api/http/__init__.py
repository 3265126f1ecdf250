"""HTTP/1.1: request limits, deadlines, and the writers of event streams."""
