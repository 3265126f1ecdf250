"""The response documents of runs and statistics."""
