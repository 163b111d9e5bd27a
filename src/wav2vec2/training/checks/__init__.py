"""Whether data and model belong together, before the first update."""
