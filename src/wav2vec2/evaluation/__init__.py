"""How good is it? Word and character errors with their intervals, and the record of an evaluation."""
