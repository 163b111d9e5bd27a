"""`python -m wav2vec2`: the command `wav2vec2`."""

from wav2vec2.command_line.app import main

if __name__ == "__main__":
    main()
