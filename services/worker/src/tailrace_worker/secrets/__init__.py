"""Read secrets for attempts, and redact them from results and logs."""
