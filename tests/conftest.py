"""Settings of all tests."""

import torch

# Tests run side by side. Two threads per process on two cores make small operations many times slower, not faster.
torch.set_num_threads(1)
