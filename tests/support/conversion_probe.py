"""Convert a checkpoint in a process of its own, and say how much memory that took at its most.

`python conversion_probe.py SOURCE DESTINATION TO OPTIONS`, the last as JSON. Before the conversion, everything that it
imports is imported: what is counted is what the conversion adds.
"""

import json
import resource
import sys

import torch

from wav2vec2 import Wav2Vec2Config, Wav2Vec2ForCTC, Wav2Vec2Processor, convert_checkpoint


def main() -> None:
    """Convert, and write kibibytes before and after."""
    source, destination, to, options = sys.argv[1:]
    with torch.device("meta"):
        Wav2Vec2ForCTC(Wav2Vec2Config(num_hidden_layers=1))
    assert Wav2Vec2Processor.__name__ == "Wav2Vec2Processor"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    convert_checkpoint(source, destination, to, **json.loads(options))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(json.dumps({"before": before, "after": after}))


if __name__ == "__main__":
    main()
