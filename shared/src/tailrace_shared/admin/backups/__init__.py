"""Encrypted backups of an installation, and how one is restored."""
