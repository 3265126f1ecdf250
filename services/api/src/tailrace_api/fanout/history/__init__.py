"""History from the log: replay, resume and backfill."""
