"""The parts of ``tailrace bench topics``."""
