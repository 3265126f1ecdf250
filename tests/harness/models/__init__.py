"""Models of correct behaviour: invariants of logs, naive folds, and simulations."""
