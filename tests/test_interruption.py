"""Signals: a wish to the loop, not the end of the process, unless someone insists."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from wav2vec2.training.saving.interruption import Interruption

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@pytest.fixture(autouse=True)
def handlers_stay() -> Iterator[None]:
    """Whatever a test does, the handlers are afterwards what they were."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    after = [signal.getsignal(number) for number in SIGNALS]
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)
    assert after == before


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_wish(number: signal.Signals) -> None:
    """The first one counts, and the process goes on."""
    with Interruption() as interruption:
        assert interruption.requested is None
        os.kill(os.getpid(), number)
        assert interruption.requested == number.name
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.requested == number.name


#: In C, without the interpreter's lock, for longer than any test waits: no handler of Python runs meanwhile.
COMPUTE = "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)])
def test_it_is_heard_at_once_and_a_second_one_ends_at_once(numbers: tuple[signal.Signals, signal.Signals]) -> None:
    """Though the main thread computes for an hour; the exit code is that of the second."""
    code = (
        "import hashlib, sys\n"
        "from wav2vec2.training.saving.interruption import Interruption\n"
        "say = lambda word: lambda name: print(word, name, flush=True)\n"
        "with Interruption(say('asked'), say('ending'), echo_seconds=0.05):\n"
        f"    print('begun', flush=True)\n    {COMPUTE}\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(numbers[0])
        assert process.stdout.readline() == f"asked {numbers[0].name}\n"
        time.sleep(0.2)
        process.send_signal(numbers[1])
        assert process.stdout.readline() == f"ending {numbers[1].name}\n"
        assert process.wait(60) == 128 + numbers[1]
    finally:
        process.kill()
        process.stdout.close()


def test_at_a_prompt_a_second_one_is_an_ordinary_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else the session holds is not lost."""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    heard: list[str] = []
    with pytest.raises(KeyboardInterrupt), Interruption(heard.append, heard.append, echo_seconds=0) as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.requested == "SIGINT"
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(3000):
            time.sleep(0.01)
        pytest.fail("still there")
    assert heard == ["SIGINT", "SIGINT"]


def test_what_a_launcher_passes_on_is_no_second_ctrl_c() -> None:
    """Both come within milliseconds; a scheduler's warning before counts as no Ctrl-C either."""
    with Interruption(echo_seconds=60) as interruption:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.requested == "SIGUSR1"


def test_handlers_are_restored_after_an_error() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    with pytest.raises(ValueError, match="of the loop"), Interruption():
        raise ValueError("of the loop")
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1]


def test_outside_the_main_thread_nothing_is_touched() -> None:
    found: list[object] = []

    def work() -> None:
        with Interruption() as interruption:
            found.extend([interruption.requested, signal.getsignal(signal.SIGTERM)])

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None, before]
