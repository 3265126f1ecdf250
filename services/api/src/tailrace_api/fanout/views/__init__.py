"""The views that streams show (a part of the log in one dialect), and batches of them. Pure."""
