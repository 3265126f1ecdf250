"""Run attempts of nodes: ``runner`` calls the function, ``attempt`` is its context."""
