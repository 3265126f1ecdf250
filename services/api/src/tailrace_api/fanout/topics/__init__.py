"""Topics: parts of the log in one dialect, encoded once into a ring."""
