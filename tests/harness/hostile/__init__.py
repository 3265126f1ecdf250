"""A tenant that attacks an installation, and a bystander that uses it meanwhile."""
