"""Faults of networks, disks and machines, made in a sandbox that vanishes with its process."""
