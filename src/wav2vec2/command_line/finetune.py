"""`wav2vec2 finetune`: learn to transcribe from audio with transcripts."""

from wav2vec2.command_line.training_run import DryRun, Overrides, Recipe, Resume, Traceback, execute


def finetune(
    recipe: Recipe,
    overrides: Overrides = None,
    resume: Resume = True,
    dry_run: DryRun = False,
    traceback: Traceback = False,
) -> None:
    """Fine-tune a pretrained model on audio with transcripts.

    A recipe says what is trained and how; shipped ones need only your audio and its transcripts:

        wav2vec2 finetune ctc_tiny_cpu data.train.0.path=train.tsv

    Paths are relative to the current directory. On several GPUs, the same run:

        accelerate launch -m wav2vec2 finetune ctc_tiny_cpu data.train.0.path=train.tsv
    """
    from wav2vec2.training.settings.run_config import FinetuneRun

    def start(run: FinetuneRun) -> None:
        from wav2vec2.training import finetuning

        finetuning.finetune(run, resume=resume)

    execute(FinetuneRun, recipe, overrides or [], dry_run, traceback, start)
