"""What streams must know of a tenant beside its commits: contexts and snapshots."""
