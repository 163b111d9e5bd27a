"""What is seen of a run: its log, its speed, its report."""
