"""The run of `wav2vec2 finetune` on any number of processes.

accelerate launch examples/finetune_ctc.py RECIPE [KEY=VALUE ...]
"""

import typer

from wav2vec2.command_line.finetune import finetune

if __name__ == "__main__":
    typer.run(finetune)
