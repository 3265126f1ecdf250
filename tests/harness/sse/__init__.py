"""SSE clients: one raw socket, or a crowd in a process of its own."""
