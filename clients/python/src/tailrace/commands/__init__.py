"""The commands, one a module; ``tailrace.cli`` loads each when it is called."""
