"""Fuzzing of everything that parses untrusted input; see ``__main__``."""
