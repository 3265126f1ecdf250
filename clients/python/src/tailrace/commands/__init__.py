"""One module per command; ``tailrace.cli`` imports it when it is called."""
