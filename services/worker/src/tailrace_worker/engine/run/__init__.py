"""Running attempts of nodes on the event loop of a worker."""
