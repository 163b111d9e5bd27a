"""`wav2vec2 pretrain`: learn from audio without transcripts."""

from wav2vec2.command_line.training_run import DryRun, Overrides, Recipe, Resume, Traceback, execute


def pretrain(
    recipe: Recipe,
    overrides: Overrides = None,
    resume: Resume = True,
    dry_run: DryRun = False,
    traceback: Traceback = False,
) -> None:
    """Pretrain a model on audio without transcripts.

    A recipe says what is trained and how; shipped ones need only your audio:

        wav2vec2 pretrain tiny_cpu data.train.0.path=FOLDER

    Paths are relative to the current directory. On several GPUs, the same run:

        accelerate launch -m wav2vec2 pretrain tiny_cpu data.train.0.path=FOLDER
    """
    from wav2vec2.training.settings.run_config import PretrainRun

    def start(run: PretrainRun) -> None:
        from wav2vec2.training import pretraining

        pretraining.pretrain(run, resume=resume)

    execute(PretrainRun, recipe, overrides or [], dry_run, traceback, start)
