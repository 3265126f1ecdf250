"""Encode Server-Sent Events as blocks and HTTP chunks. Pure."""
