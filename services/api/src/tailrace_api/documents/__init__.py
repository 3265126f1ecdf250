"""Documents that the API returns: runs and statistics."""
