"""The section that a pretraining run alone has: what is learnt before the objective."""

from dataclasses import dataclass

from wav2vec2.training.settings.run_sections import CountOrZero, Positive, Share


@dataclass
class WarmStartSection:
    """What comes before the objective: the convolutions, under a linear head that is thrown away, learn to say the
    log-mel energies of each frame. A fresh model then has frames in which there is something to tell apart."""

    #: Updates of the warm start. They are the first of `run.updates`; schedule, temperature, evaluations and guards of
    #: the objective count from their end. 0: the objective begins at once, as published.
    updates: CountOrZero = 0
    #: The highest learning rate of the warm start, from which it falls in a straight line to 0.
    learning_rate: Positive = 2e-3
    #: Share of the warm start in which the learning rate rises.
    warmup: Share = 0.05
