"""What is learned: the losses and the evaluations that the one loop calls."""
