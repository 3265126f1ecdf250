"""Routes that answer with event streams."""
