"""Settings of all tests."""

from unittest.mock import patch

import torch

from wav2vec2.training import starting

# Tests run side by side. Two threads per process on two cores make small operations many times slower, not faster.
torch.set_num_threads(1)

# A run begins by measuring the processor for a second, and the tests begin hundreds of runs.
patch.object(starting, "matmul_peak", lambda *_: 1e9).start()
