"""What must hold: invariants of logs, folds and simulations."""
