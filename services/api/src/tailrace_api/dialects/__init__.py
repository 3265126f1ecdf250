"""Dialects: how the commits of a log look to the clients of one kind of stream. Pure."""
