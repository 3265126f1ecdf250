"""The arithmetic and the simulation behind the size of an installation."""
