"""A linear layer that is told apart from others by how it starts."""

from torch import nn


class UniformLinear(nn.Linear):
    """Starts uniform in +-1 / sqrt(inputs), weights and bias, where other linear layers start normal."""
