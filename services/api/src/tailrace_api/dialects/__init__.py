"""Dialects: what the commits of a log look like to the clients of one stream. Pure."""
