"""Folders are run in a process of their own: what is in them may end it, hold it for ever, or ask for all memory.

The process is `python -m wav2vec2.export.checking_process`. The first line that it reads says what folders are compared
with, each further one what is to be looked at; each gives one line of JSON. Before it opens anything, another line says
how many seconds that may take.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TextIO

from wav2vec2.export.refusal import in_a_line

#: What is run.
COMMAND = [sys.executable, "-m", "wav2vec2.export.checking_process"]

#: How long a file may take: as many seconds, and as many times as long as the model takes in torch.
_SECONDS, _TIMES = 60.0, 100

#: How many bytes may be added to what the process has with the model: as many, and as many times the model's.
_BYTES, _TIMES_THE_MODEL = 4_000_000_000, 8

#: As much is told of why a process ended.
_LAST_WORDS = 200


class EndedError(RuntimeError):
    """The process ended, or was ended, before it had answered: how, and its last words."""


class CheckingProcess:
    """The process, for the one that asks. It must be closed."""

    def __init__(self) -> None:
        self._said = TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            encoding="utf-8",
            start_new_session=True,  # so that what it starts, such as Node, can be ended with it
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Its answer; `EndedError` where there is none."""
        seconds: float | None = None
        assert self._process.stdin is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
        except BrokenPipeError as error:
            raise EndedError(self._how_it_ended()) from error
        while True:
            try:
                line = self._lines.get(timeout=seconds)
            except queue.Empty as error:
                raise EndedError(f"was not done after {seconds:.0f} s") from error
            if not line:
                raise EndedError(self._how_it_ended())
            answer: dict[str, Any] = json.loads(line)
            if "seconds" not in answer:
                return answer
            seconds = answer["seconds"]

    def close(self) -> None:
        """End it, and all that it has started."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError):  # it has ended, and was asked how
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._listener.join()
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):  # of a question that it never read
            self._process.stdin.close()
        self._process.stdout.close()
        self._said.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        how = f"signal {-code}" if code < 0 else f"code {code}"
        self._said.seek(0)
        lines = self._said.read().strip().splitlines()
        return f"ended the process with {how}" + (f" ({in_a_line(lines[-1], _LAST_WORDS)})" if lines else "")


def main(requests: TextIO, answers: TextIO) -> None:
    """What the process does: answer until there are no more requests."""
    from wav2vec2.export.compared_folder import Comparison

    def say(**content: Any) -> None:
        print(json.dumps(content), file=answers, flush=True)

    comparison = None
    for line in requests:
        request = json.loads(line)
        try:
            if comparison is None:
                comparison = Comparison.of(**request)
                _limit_memory(sum(one.nbytes for one in comparison.checkpoint.model.state_dict().values()))
                say(faults=[])
                continue
            say(seconds=_SECONDS + _TIMES * comparison.seconds)
            if "precision" not in request:
                say(faults=comparison.settings(**request))
                continue
            found = comparison.figures(**request, ready=lambda: say(seconds=None))
            say(**answer_of(found))
        except ImportError as error:
            say(missing=str(error))
        except (ValueError, OSError, RuntimeError, AssertionError) as error:
            say(refused=str(error))


def answer_of(found: Any) -> dict[str, Any]:
    """Figures, or what is wrong, as the answer to a question."""
    return {"faults": [found]} if isinstance(found, str) else {"faults": [], "figures": asdict(found)}


def _limit_memory(model: int) -> None:
    """From now on no more than is usual, where the system tells how much there is."""
    try:
        import resource

        status = Path("/proc/self/status").read_text("utf-8")
    except (ImportError, OSError):
        return
    now = 1024 * int(status.partition("VmData:")[2].split()[0])
    most = now + _BYTES + _TIMES_THE_MODEL * model
    resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))


if __name__ == "__main__":
    private = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what runtimes print is no answer
    main(sys.stdin, private)
