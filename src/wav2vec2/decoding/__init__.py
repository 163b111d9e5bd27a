"""From log-probabilities to text and times: tensors in, text out."""
