"""The run of `wav2vec2 pretrain` on any number of processes.

accelerate launch examples/pretrain.py RECIPE [KEY=VALUE ...]
"""

import typer

from wav2vec2.command_line.pretrain import pretrain

if __name__ == "__main__":
    typer.run(pretrain)
