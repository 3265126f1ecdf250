"""Services and commands as processes, their ports and their cost."""
