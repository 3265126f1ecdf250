"""Server-Sent Events on the wire: blocks and chunks. Pure."""
