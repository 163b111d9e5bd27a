"""`python -m wav2vec2`, which launchers can start on several processes: `accelerate launch -m wav2vec2 finetune ...`."""

from wav2vec2.command_line.app import main

main()
