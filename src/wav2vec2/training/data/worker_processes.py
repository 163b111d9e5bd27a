"""The processes that make micro-batches ahead of time: how they begin, and that they end.

They come from a fork server (a small process that has imported what they need and started no thread), not from a fork
of the training process: threads of torch, tokenizers and the accelerator's driver do not survive a fork, and what they
held locked stays locked. A worker has neither Transformers nor a model, and nothing that the main program imports.
"""

import atexit
import mmap
import multiprocessing
import os
import pickle
import signal
import struct
import sys
import tempfile
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import connection, reduction
from multiprocessing.context import BaseContext
from threading import Event, Thread
from typing import Any

import torch
from torch.utils.data import DataLoader

from wav2vec2.training.data.kept_clips import KeptClips
from wav2vec2.training.data.micro_batches import Batch, MicroBatches
from wav2vec2.training.saving.interruption import SIGNALS

#: Micro-batches that each worker makes ahead.
_AHEAD = 4

#: Where a piece of a shared pickle begins: a multiple of this many bytes, as arrays like it.
_ALIGNMENT = 64

#: What the fork server imports, once for all workers.
_NEEDED = ("wav2vec2.training.data.worker_processes", "wav2vec2.training.data.batch_loading")


def loaded(dataset: MicroBatches, workers: int, *, pin: bool = False) -> Generator[Batch, None, None]:
    """The micro-batches of `dataset`, made by `workers` processes, or here if there are none; with `pin`, in memory
    that a GPU reads by itself, where a thread of this process puts them. Closing the iterator ends the workers, and so
    does the end of the interpreter."""
    if not workers:
        yield from map(Batch.pin_memory, dataset) if pin else dataset
        return
    shared = _Shared(dataset) if os.name == "posix" else None
    with _main_program_hidden(shared is not None and not shared.pickle.names("__main__")), warnings.catch_warnings():
        # several processes may share a machine with few processors; how many workers there are is the recipe's choice
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        loader = DataLoader(
            shared or dataset,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=_AHEAD,
            pin_memory=pin,
            collate_fn=_as_it_is,
            worker_init_fn=_begin_worker,
            multiprocessing_context=prepared_context(),
            generator=torch.Generator(),  # or a seed for the workers would be drawn from the training's own numbers
        )
        iterator: Any = iter(loader)
    if shared is not None:
        shared.pickle.file.close()  # every worker has a descriptor of its own

    def close() -> None:
        if iterator._shutdown:  # everything was read, and the DataLoader has ended all of it
            return
        if pin:  # before the processes that it reads from: one that is killed as it writes would leave it waiting
            iterator._pin_memory_thread_done_event.set()
            iterator._worker_result_queue.put((None, None))
            iterator._pin_memory_thread.join()
        # at once: nobody needs what they are making. The DataLoader would give each of them five seconds
        for worker in iterator._workers:
            worker.kill()
        # one that was killed as it looked at the event that they share holds its lock for ever, and nobody else looks
        iterator._workers_done_event = Event()
        iterator._shutdown_workers()

    atexit.register(close)
    try:
        yield from iterator
    finally:
        close()
        atexit.unregister(close)


class _Shared(MicroBatches):
    """Micro-batches whose plan is written once for all workers, each of which gets what was there before."""

    def __init__(self, dataset: MicroBatches) -> None:
        super().__init__(dataset.plan, dataset.loading)
        # what changes while workers run is handed to each of them by itself
        self.pickle = SharedPickle(MicroBatches(dataset.plan, replace(dataset.loading, kept=None)))

    def __reduce__(self) -> Any:
        return _as_it_was, (self.pickle, self.loading.kept)


def _as_it_was(dataset: MicroBatches, kept: KeptClips | None) -> MicroBatches:
    """In a worker: the micro-batches with what was handed over beside them."""
    dataset.loading = replace(dataset.loading, kept=kept)
    return dataset


def prepared_context() -> BaseContext:
    """The fork server where there is one (POSIX), else new processes. It imports while the caller goes on."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver, resource_tracker

    resource_tracker.ensure_running()  # the first thing a fork server does, which would unblock signals again
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_NEEDED, *(["datasets"] if "datasets" in sys.modules else [])])
    with _signals_blocked(), _search_path_handed_on():
        forkserver.ensure_running()
    return context


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """What begins in here never hears of what stops a run, not even in its first instant: whoever signals all processes
    of a run means the training process, which needs its data to finish an update, and ends the others itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _search_path_handed_on() -> Iterator[None]:
    """Before Python 3.13 a fork server does not learn where modules are found, and silently imports none."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextmanager
def _main_program_hidden(hidden: bool) -> Iterator[None]:
    """A new process imports the main program, and all that this imports, unless it does not know where that is."""
    main: Any = sys.modules["__main__"]
    kept = {name: vars(main)[name] for name in ("__file__", "__spec__") if hidden and name in vars(main)}
    for name in kept:
        setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(main, name, value)


def _as_it_is(batch: Any) -> Any:
    """Takes the place of the DataLoader's own conversion of what a worker has made, which is a `Batch` already."""
    return batch


def _begin_worker(number: int) -> None:
    """Make a worker compute in one thread, hear no signal, and end as soon as the training process has, however that
    ended."""

    def end_with_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            connection.wait([parent.sentinel])
            os._exit(0)

    torch.set_num_threads(1)
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    Thread(target=end_with_parent, daemon=True).start()


class SharedPickle:
    """An object that many processes read: pickled once into a file without a name, not once for each of them.

    This itself, pickled for the start of another process, is a descriptor of the file; what comes out there is the
    object. The arrays in it are not read at all, but mapped: all processes share the pages of the file.
    """

    def __init__(self, value: object) -> None:
        buffers: list[pickle.PickleBuffer] = []
        self._objects = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        pieces = [memoryview(self._objects), *(buffer.raw() for buffer in buffers)]
        self.file = tempfile.TemporaryFile(prefix="wav2vec2-")  # noqa: SIM115 (it lives as long as this)
        self.file.write(struct.pack(f"<{len(pieces) + 1}q", len(pieces), *(piece.nbytes for piece in pieces)))
        for piece in pieces:
            self.file.write(bytes(-self.file.tell() % _ALIGNMENT))
            self.file.write(piece)
        self.file.flush()

    def names(self, module: str) -> bool:
        """Whether something in the object is defined in this module, so that whoever reads it must import that."""
        return module.encode() in self._objects

    def __reduce__(self) -> Any:
        return _received, (reduction.DupFd(self.file.fileno()),)


def _received(descriptor: Any) -> Any:
    """In the other process: the object behind the descriptor that was sent there."""
    number = descriptor.detach()
    try:
        return read_pickle(number)
    finally:
        os.close(number)


def read_pickle(descriptor: int) -> Any:
    """The object in the file of a `SharedPickle`; its arrays cannot be changed."""
    content = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    (count,) = struct.unpack_from("<q", content)
    at, pieces = 8 * (count + 1), []
    for length in struct.unpack_from(f"<{count}q", content, 8):
        at += -at % _ALIGNMENT
        pieces.append(content[at : at + length])
        at += length
    return pickle.loads(pieces[0], buffers=pieces[1:])
