"""Response documents: runs and statistics."""
