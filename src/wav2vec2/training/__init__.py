"""Training: run configuration, data, the one loop, checkpoints, guards and the report."""
