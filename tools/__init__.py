"""Development tools that ``just check`` runs."""
