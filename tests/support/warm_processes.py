"""New processes in milliseconds: one process that has imported everything forks whatever a test asks for.

Importing torch and Transformers takes seconds, and the tests of killed and resumed runs start a hundred processes. The
one that forks has started no thread, so a fork of it is a process like any other.
"""

import atexit
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

#: Longest time that anything here may take.
PATIENCE = 120.0


@dataclass
class Process:
    """A running piece of work, and the file that its standard error goes to."""

    server: "Server"
    pid: int
    log: Path
    status: int | None = field(default=None)

    def wait(self, seconds: float = PATIENCE) -> int | None:
        """Its exit status (a negative one is a signal), None if it still runs after so many seconds."""
        if self.status is None:
            self.status = self.server.ask("wait", self.pid, seconds)
        return self.status

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; what has ended already is left alone."""
        if self.wait(0) is None:
            os.kill(self.pid, number)

    def said(self) -> str:
        """Its standard error so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")


class Server:
    """The process that forks, as seen from the tests."""

    def __init__(self, modules: Sequence[str]) -> None:
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "ACCELERATE_USE_CPU": "1"}
        command = f"import warm_processes; warm_processes.serve({list(modules)!r})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | one_thread | offline | {"PYTHONPATH": path},
        )

    def ask(self, *request: Any) -> Any:
        """One request, one answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        pickle.dump(request, self.process.stdin)
        self.process.stdin.flush()
        return pickle.load(self.process.stdout)

    def start(self, log: Path, work: str, *arguments: Any, **environment: str) -> Process:
        """Begin `work`, "module:function", in a new process."""
        log.parent.mkdir(parents=True, exist_ok=True)
        return Process(self, self.ask("start", str(log), work, arguments, environment), log)

    def start_many(self, processes: int, log: Path, work: str, *arguments: Any, **environment: str) -> list[Process]:
        """The same in each of several processes, told of each other as a launcher tells Accelerate."""
        if processes == 1:
            return [self.start(log, work, *arguments, **environment)]
        together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes)}
        started = []
        for rank in range(processes):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(processes)}
            named = log.with_name(f"{log.name}.{rank}")
            started.append(self.start(named, work, *arguments, **together, **own, **environment))
        return started

    def run(self, processes: int, log: Path, work: str, *arguments: Any, **environment: str) -> str:
        """The same until all have ended well; what the first wrote to standard error."""
        started = self.start_many(processes, log, work, *arguments, **environment)
        statuses = [process.wait() for process in started]
        assert statuses == [0] * processes, (statuses, [process.said()[-3000:] for process in started])
        return started[0].said()

    def end_orphans(self) -> None:
        """End data workers whose run was killed. The kernel does it for runs that have a fork server of their own."""
        self.ask("end orphans")

    def close(self) -> None:
        """End the process and whatever it has forked."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


@cache
def server(*modules: str) -> Server:
    """The one server of this test process."""
    started = Server(modules)
    atexit.register(started.close)
    return started


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def serve(modules: Sequence[str]) -> None:
    """Import, then answer requests until standard input is closed."""
    import importlib
    from multiprocessing import forkserver

    for module in modules:
        importlib.import_module(module)
    # One fork server for the data workers of all runs: a new one would have to import everything again.
    forkserver.set_forkserver_preload([name for name in sorted(sys.modules) if name.startswith("wav2vec2")])
    forkserver.ensure_running()
    running: set[int] = set()
    answers: dict[str, Callable[..., Any]] = {
        "start": lambda *request: _start(running, *request),
        "wait": lambda pid, seconds: _wait(running, pid, seconds),
        "end orphans": _end_orphans,
    }
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    while True:
        try:
            name, *request = pickle.load(requests)
        except EOFError:
            break
        pickle.dump(answers[name](*request), replies)
        replies.flush()
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _start(running: set[int], log: str, work: str, arguments: Sequence[Any], environment: dict[str, str]) -> int:
    pid = os.fork()
    if pid:
        running.add(pid)
        return pid
    status = 1
    try:
        status = _work(log, work, arguments, environment)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _work(log: str, work: str, arguments: Sequence[Any], environment: dict[str, str]) -> int:
    """In the new process: its own standard error, and the fork server of the parent as its own."""
    import importlib
    from multiprocessing import forkserver

    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ |= environment
    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]
    forkserver.ensure_running = lambda: None
    module, _, function = work.partition(":")
    getattr(importlib.import_module(module), function)(*arguments)
    return 0


def _wait(running: set[int], pid: int, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            running.discard(pid)
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(0.005)


def _end_orphans() -> None:
    from multiprocessing import forkserver

    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    children = Path(f"/proc/{pid}/task/{pid}/children")  # elsewhere than on Linux they end with the server
    for worker in children.read_text(encoding="ascii").split() if children.is_file() else []:
        with suppress(ProcessLookupError):
            os.kill(int(worker), signal.SIGKILL)
