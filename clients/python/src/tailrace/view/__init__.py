"""A run as people watch it in a terminal."""
