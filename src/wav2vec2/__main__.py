"""`python -m wav2vec2`: what launchers start on several processes, as `accelerate launch -m wav2vec2 finetune ...`."""

from wav2vec2.command_line.app import main

main()
