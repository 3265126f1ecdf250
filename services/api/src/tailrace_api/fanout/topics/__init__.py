"""Follow parts of the log, and encode each once per dialect into a ring."""
