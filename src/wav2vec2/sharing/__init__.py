"""Publishing what was trained: the model card, the checks before anything leaves this machine, the upload."""
