"""From audio on disk or in streams to the micro-batches of every process."""
