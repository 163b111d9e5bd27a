"""Too little memory, said in terms of a run: how much audio a process holds at once, and what is kept."""

from collections.abc import Iterator
from contextlib import contextmanager

from wav2vec2.training.saving.checkpoints import Checkpoints
from wav2vec2.training.saving.training_state import TrainingState
from wav2vec2.training.settings.run_config import Run

#: How torch says it: of a CUDA device, of Apple's, and of the processor on Linux and on Windows. Only the first has a
#: class of its own. Accelerate's `should_reduce_batch_size` knows fewer of them, and no `MemoryError`.
_PHRASES = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


class MemoryTooSmallError(RuntimeError):
    """The run needs more memory than there is, and what would need less."""


def is_memory_error(error: BaseException) -> bool:
    """Whether an error says that memory is too small."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in _PHRASES)


@contextmanager
def explained_memory(run: Run, checkpoints: Checkpoints, state: TrainingState) -> Iterator[None]:
    """Turn torch's error into one that names the setting which decides. Nothing is saved now: the update at hand is
    lost, and what was saved before stays as it is."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_memory_error(error):
            raise
        said = next(iter(str(error).splitlines()), "") or type(error).__name__
        newest = checkpoints.newest()
        kept = "no checkpoint was written yet" if newest is None else f"{newest} is kept, and the run goes on from it"
        raise MemoryTooSmallError(
            f"out of memory after update {state.update}: {said}\n  {advice(run)}\n  {kept}"
        ) from error


def advice(run: Run) -> str:
    """What to change, as it can be typed."""
    held, longest = run.data.seconds_per_batch, run.data.max_seconds
    told = f"data.seconds_per_batch={held:g} is the audio that one process holds at once. "
    if held > longest:
        less = max(held / 2, longest)
        told += f"Start again with less, such as data.seconds_per_batch={less:g}: an update is cut into more parts, "
        told += "and what is learned stays the same"
    else:
        told += f"It cannot be less than the longest clip, so lower data.max_seconds={longest:g} with it"
    others = [] if run.run.gradient_checkpointing else ["run.gradient_checkpointing=true"]
    others += ["run.precision=bf16"] if run.run.precision == "fp32" else []
    return told + (f"; {' and '.join(others)} need{'' if len(others) > 1 else 's'} less too" if others else "")
