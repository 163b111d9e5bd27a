"""The one training loop, of pretraining and of fine-tuning alike.

    fetch the update's parts -> update -> guard, log -> evaluate and save when due -> again

Everything random follows from (seed, update), and what is neither weights nor optimizer fits into a small record
(`TrainingState`), so a run may stop anywhere, on any number of processes, and go on.
"""

import time
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import astuple, dataclass, replace
from itertools import groupby
from typing import Any

import torch
from accelerate import Accelerator

from wav2vec2.training.data.audio_clips import SAMPLING_RATE, Skipped
from wav2vec2.training.data.bad_files import BadFiles
from wav2vec2.training.data.batch_loading import Batch, TrainingData
from wav2vec2.training.data.micro_batches import ClipByClip, Collate
from wav2vec2.training.device_copies import CopiedAhead, moved
from wav2vec2.training.guards import Guards, TrainingStoppedError
from wav2vec2.training.kept_features import KeptFeatures
from wav2vec2.training.memory_errors import explained_memory
from wav2vec2.training.optimization import learning_rate, set_learning_rate
from wav2vec2.training.progress.throughput import Meter, larger_batches
from wav2vec2.training.progress.training_log import TrainingLog
from wav2vec2.training.saving.checkpoints import Checkpoints, CheckpointWriteError, Saveable
from wav2vec2.training.saving.interruption import Interruption, left_early
from wav2vec2.training.saving.training_state import TrainingState
from wav2vec2.training.settings.run_config import Run
from wav2vec2.training.sums_over_processes import add, add_numbers, as_numbers, over_processes
from wav2vec2.training.tasks.task import Sums, Task
from wav2vec2.training.update_step import Updater, UpdateResult

#: Why a clip is listed that a task has dropped.
_DROPPED = "the target needs more frames than the audio has"


@dataclass(frozen=True)
class Signals:
    """What the processes of a run tell each other at every update, summed over them."""

    #: Processes that were asked to stop.
    stop: float
    #: Whether the main process's clock says that it is time to save.
    save: float
    #: Audio of the update.
    audio_seconds: float
    #: The same with its padding.
    held_seconds: float
    #: Clips that were read.
    clips: float
    #: Clips that could not be read.
    unreadable: float


@dataclass
class Loop:
    """A run that is ready to go, from where its state stands to its last update."""

    #: What the run was asked to be.
    run: Run
    #: Accelerate, as it was launched.
    accelerator: Accelerator
    #: What is learnt.
    task: Task
    #: Forward, backward and optimizer step.
    updater: Updater
    #: The audio.
    data: TrainingData
    #: Where checkpoints are kept.
    checkpoints: Checkpoints
    #: The log, and what is shown on the screen.
    log: TrainingLog
    #: What stops a run that has gone wrong.
    guards: Guards
    #: The list of clips that cannot be read.
    bad_files: BadFiles
    #: The list of clips that cannot be learnt from.
    dropped: BadFiles
    #: How fast it goes.
    meter: Meter
    #: The output of the part of the model that is computed once for a clip, if it is kept.
    kept: KeptFeatures | None
    #: Feature extractor or processor, so that every checkpoint is a complete model folder.
    saved_beside: Sequence[Saveable]
    #: Where the run stands.
    state: TrainingState

    def __post_init__(self) -> None:
        self.last_save = time.monotonic()
        self.saved_update = self.state.update
        self.advised = False

    def train(self) -> TrainingState:
        """Until the last update, or until someone asks to stop; either way everything is saved."""
        state, every = self.state, self.run.run
        left_early(None)
        with (
            self.memory(),
            Interruption(self.say_what_happens, self.say_what_is_lost) as interruption,
            closing(self.updates()) as updates,
        ):
            self.make_up_for_evaluation()
            ahead = CopiedAhead(updates, self.accelerator.device)
            while state.update < every.updates:
                signals = self.take(ahead, interruption.requested is not None)
                alone = self.accelerator.num_processes == 1  # several learn of a wish together, with the next update
                stop = signals.stop > 0 or (alone and interruption.requested is not None)
                improved = False
                if self.evaluation_is_due() and not stop:
                    improved = self.evaluate()
                if stop or signals.save or improved or self.due(every.save_every):
                    self.save(final=stop or state.update == every.updates)
                if stop:
                    self.log.note(f"stopped as asked ({interruption.requested}) after update {state.update}, all saved")
                    left_early((interruption.requested or "SIGTERM") if state.update < every.updates else None)
                    break
        return state

    def say_what_happens(self, signal_name: str) -> None:
        """As soon as a signal comes."""
        self.log.note(
            f"{signal_name}: finishing the update at hand, then saving; again to end at once and lose "
            f"{_updates(self.state.update + 1 - self.saved_update)}"
        )

    def say_what_is_lost(self, signal_name: str) -> None:
        """As soon as a second one comes; it is the last that is said."""
        lost = self.state.update - self.saved_update
        self.log.note(f"{signal_name} again: ended at once; {_updates(lost)} since update {self.saved_update} are lost")
        self.log.stop_display()

    def memory(self) -> AbstractContextManager[None]:
        """Inside, too little memory is an error that says what to change."""
        return explained_memory(self.run, self.checkpoints, self.state)

    def make_up_for_evaluation(self) -> None:
        """One that was due when the run was asked to stop, which leaves no time for it."""
        state = self.state
        evaluated = state.metrics.get("update") == state.update
        if state.update and self.evaluation_is_due() and not evaluated:
            self.evaluate()
            self.save(final=state.update == self.run.run.updates)

    def updates(self) -> Generator[list[Batch]]:
        """The parts of one update after another, from where the state stands."""
        batches = self.data.batches(
            self.collate,
            processes=self.accelerator.num_processes,
            process=self.accelerator.process_index,
            start_update=self.state.update,
            position=self.state.position,
            pin=self.accelerator.device.type == "cuda",
        )
        try:
            for _, parts in groupby(batches, key=lambda batch: batch.update):
                read = list(parts)
                with self.meter.working():
                    made = [self.with_targets(part) for part in read]
                yield made
        finally:
            batches.close()  # ends the worker processes now, not when the iterator is forgotten

    @property
    def collate(self) -> Collate:
        """What makes a batch of clips in the worker processes."""
        return self.task.waveforms if self.kept is None else ClipByClip(self.task.waveforms)

    def with_targets(self, batch: Batch) -> Batch:
        """With what the workers do not know of."""
        batch = batch if self.kept is None else self.kept(batch)
        return replace(batch, inputs=self.task.with_targets(batch.inputs, batch.clips))

    def take(self, ahead: CopiedAhead, wants_stop: bool) -> Signals:
        """One update: weights, record, guards and, when due, a line of the log."""
        run, state = self.run, self.state
        with self.meter.waiting():
            parts, inputs = ahead.next()
        rate = learning_rate(run, state.update)
        set_learning_rate(self.updater.optimizer, rate)
        own = self.signals_of(parts, wants_stop)
        computing = self.updater(state.update, inputs, astuple(own))
        if not wants_stop and state.update + 1 < run.run.updates:
            with self.meter.waiting():
                ahead.prepare()
        result = computing()
        signals = Signals(*result.messages)
        self.meter.add(self.operations_of(parts), signals.audio_seconds)
        state.update, state.epoch, state.position = state.update + 1, parts[-1].epoch, parts[-1].position
        state.running = add_numbers(state.running, self.record(result, signals))
        skipped = [one for part in parts for one in part.skipped]
        self.list_dropped(parts)
        self.bad_files.add(skipped, round(signals.clips), round(signals.unreadable))
        figures = self.task.figures(result.sums) | {"gradient_norm": result.gradient_norm}
        try:
            notes = self.guards.check(state.update, figures, self.updater.culprit)
        except TrainingStoppedError:  # the last figures before it are those that one wants to see
            self.write_line(rate)
            raise
        for note in notes:
            self.log.note(note)
        self.log.advance(state.update)
        if self.due(run.run.log_every) or state.update == run.warm_updates:
            self.write_line(rate)
            self.advise(len(parts))
        if state.update == run.warm_updates:
            self.updater.start_afresh()
        return signals

    def advise(self, parts: int) -> None:
        """Once, on a GPU: whether larger micro-batches would fit. A warm start needs less memory than what follows."""
        if self.state.update <= self.run.warm_updates:
            return
        told = None if self.advised else larger_batches(self.accelerator.device, self.run.data.seconds_per_batch, parts)
        self.advised = True
        if told is not None:
            self.log.note(told)

    def list_dropped(self, parts: list[Batch]) -> None:
        """Name the clips that the task cannot learn from."""
        marked = [pair for part in parts for pair in zip(part.ids, part.inputs.get("dropped", []), strict=False)]
        self.dropped.add([Skipped(name, _DROPPED) for name, dropped in marked if dropped], used=0)

    def signals_of(self, parts: list[Batch], wants_stop: bool) -> Signals:
        """What this process has to say."""
        return Signals(
            stop=float(wants_stop),
            save=float(self.time_to_save()),
            audio_seconds=sum(part.seconds for part in parts),
            held_seconds=sum(part.shape.rows * part.shape.samples for part in parts) / SAMPLING_RATE,
            clips=float(sum(len(part.ids) for part in parts)),
            unreadable=float(sum(len(part.skipped) for part in parts)),
        )

    def operations_of(self, parts: list[Batch]) -> float:
        """For the share of the machine's peak that is reached."""
        lengths = [part.shape.samples for part in parts for _ in range(part.shape.rows)]
        if self.kept is None:
            return self.task.operations(lengths)
        convolved = [length for part in parts for length in part.convolved or []]
        self.meter.count(sum(len(part.clips) for part in parts), len(convolved))
        return self.kept.operations(self.task, lengths, convolved)

    def record(self, result: UpdateResult, signals: Signals) -> dict[str, Any]:
        """What is added up until the next line of the log, and kept in checkpoints between lines.

        Of an update that was skipped, the figures count for nothing: one infinity would make those of all the others
        infinite.
        """
        figures = {} if result.skipped else result.sums | {"gradient_norms": result.gradient_norm}
        return figures | {
            "updates": 1,
            "skipped_updates": int(result.skipped),
            "audio_seconds": signals.audio_seconds,
            "held_seconds": signals.held_seconds,
            "unreadable": signals.unreadable,
        }

    def write_line(self, learning_rate: float) -> None:
        """The figures of the updates since the last line."""
        state, running = self.state, self.state.running
        updates = running["updates"]
        taken = updates - running["skipped_updates"]
        speed = self.meter.figures(self.sum_numbers)
        figures = self.task.figures(running) | {"gradient_norm": running["gradient_norms"] / taken} if taken else {}
        figures |= {
            "epoch": state.epoch,
            "learning_rate": learning_rate,
            "skipped": running["unreadable"],
            "skipped_updates": running["skipped_updates"],
        }
        seconds = running["audio_seconds"]
        speed |= {
            "seconds_per_update": seconds / updates,
            "padding_share": 1 - seconds / max(running["held_seconds"], 1e-9),
        }
        self.log.training(state.update, figures | speed)
        if "code_counts" in running:
            self.log.codes(state.update, running["code_counts"])
        state.running = {}

    def sum_numbers(self, numbers: list[float]) -> list[float]:
        """Over all processes."""
        tensor = torch.tensor(numbers, dtype=torch.float32, device=self.accelerator.device)
        summed: list[float] = over_processes(self.accelerator, tensor).tolist()
        return summed

    def due(self, every: int) -> bool:
        """Whether what is done every so many updates is to be done now; all of it is at the end."""
        return self.state.update % every == 0 or self.state.update == self.run.run.updates

    def evaluation_is_due(self) -> bool:
        """Of the objective: a warm start has nothing to do with its figures, and no best model."""
        begun = self.state.update > self.run.warm_updates
        return begun and self.data.has_valid and self.due(self.run.run.evaluate_every)

    def time_to_save(self) -> bool:
        """By the main process's clock."""
        minutes = self.run.run.save_minutes
        late = minutes is not None and time.monotonic() - self.last_save > 60 * minutes
        return late and bool(self.accelerator.is_main_process)

    @torch.no_grad()
    def evaluate(self) -> bool:
        """The figures of the held-out data, always with the same masks. Whether the model is among the best so far, so
        that its checkpoint will be kept."""
        accelerator = self.accelerator
        with self.meter.paused(), self.updater.average.in_the_model():
            self.updater.model.eval()
            sums: Sums = {}
            skipped: list[Skipped] = []
            batches = self.data.evaluation_batches(
                self.collate,
                processes=accelerator.num_processes,
                process=accelerator.process_index,
                seconds_per_batch=self.run.data.seconds_per_batch,
                pin=accelerator.device.type == "cuda",
            )
            for batch in map(self.with_targets, batches):
                inputs = moved(batch.inputs, accelerator.device)
                sums = add(sums, self.task.evaluation_part(self.updater.model, inputs))
                skipped += batch.skipped
            self.bad_files.add(skipped, used=0, bad=0)
            figures = self.task.evaluation_figures(as_numbers(accelerator, sums))
            left_out = sum(self.data.valid_left_out.values()) + self.sum_numbers([float(len(skipped))])[0]
            if left_out:  # the figures are of the others
                figures["left_out"] = int(left_out)
            self.log.evaluation(self.state.update, figures)
            if figures.get("plateau"):
                self.log.note(figures["plateau"])
            self.state.metrics = {"update": self.state.update} | figures
        return self.checkpoints.are_improved_by(accelerator, figures.get(self.task.criterion))

    def save(self, final: bool) -> None:
        """A checkpoint. That one cannot be written stops nothing but the end of a run."""
        state = self.state
        state.guards = self.guards.state_dict()
        state.log_bytes = self.log.mark()
        metric = state.metrics.get(self.task.criterion) if state.metrics.get("update") == state.update else None
        with self.meter.paused():
            try:
                model, optimizer, average = self.updater.model, self.updater.optimizer, self.updater.average.tensors
                self.checkpoints.save(self.accelerator, model, optimizer, state, self.saved_beside, metric, average)
                self.saved_update = state.update
            except CheckpointWriteError as error:
                if final:
                    raise
                self.log.note(f"{error}; the run goes on, and the next checkpoint is tried when it is due")
        self.last_save = time.monotonic()


def _updates(count: int) -> str:
    return f"{count:,} update{'' if count == 1 else 's'}"
