"""Pretraining on your own audio with this package's loop: read from top to bottom, change the constants, run it.

    python examples/pretrain.py
    accelerate launch examples/pretrain.py                                    # several GPUs: the same run
    accelerate launch examples/pretrain.py base_960h data.train.0.path=LibriSpeech run.output=outputs/base

A recipe and overrides on the command line go before the constants. Without a script: `wav2vec2 pretrain`.
"""

import json
import sys
from typing import Any

from wav2vec2 import PretrainRun, Wav2Vec2ForPreTraining, pretrain, read_run
from wav2vec2.baselines import VQWav2VecForPreTraining, Wav2VecForPreTraining

RECIPE = "tiny_cpu"  # or a file; examples/recipes/ has those of the published models, with a reason for each number
AUDIO = "recordings/"  # a folder, a manifest, parquet files, a data set
OUTPUT = "outputs/pretrained"
KINDS: dict[str, Any] = {
    "wav2vec2": Wav2Vec2ForPreTraining,
    "wav2vec": Wav2VecForPreTraining,
    "vq-wav2vec": VQWav2VecForPreTraining,
}

if __name__ == "__main__":  # processes that read audio may import this file
    # 1. The run. Every setting has a name, in sections: `model`, `data`, `optimizer`, `schedule`, `run`, `guards`.
    #    What is misspelled or impossible is an error that names all of it, before anything is read.
    given = sys.argv[1:]
    recipe = given.pop(0) if given and "=" not in given[0] else RECIPE
    run = read_run(PretrainRun, recipe, [f"data.train.0.path={AUDIO}", f"run.output={OUTPUT}", *given])

    # 2. The training. It says what it does, and stops where a run goes wrong (collapsed codebooks, numbers that are
    #    none). Stopped or killed and started again, it goes on from its newest checkpoint as if nothing had been.
    output = pretrain(run)

    # 3. What came of it. `report.html` in the same folder has the curves.
    if (output / "model").is_dir():
        config = json.loads((output / "model" / "config.json").read_text(encoding="utf-8"))
        model = KINDS[config["model_type"]].from_pretrained(output / "model")
        updates = model.config.pretraining_updates
        print(f"{output / 'model'}: {model.num_parameters():,} parameters after {updates} updates")

# 4. On to letters: `wav2vec2 finetune ctc_tiny_cpu` with model.preset=null and this model as model.checkpoint.
