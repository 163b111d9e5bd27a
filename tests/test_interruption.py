"""Signals: a wish to the loop, not the end of the process; and none at all to a data worker."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from wav2vec2.training.saving.interruption import Interruption, ignore_interrupts

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@pytest.fixture(autouse=True)
def handlers_stay() -> Iterator[None]:
    """Whatever a test does, the handlers are afterwards what they were."""
    before = [signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)]
    yield
    after = [signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)]
    for number, handler in zip((*SIGNALS, signal.SIGALRM), before, strict=True):
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


def test_a_second_ctrl_c_ends_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), Interruption(echo_seconds=0) as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.requested == "SIGINT"
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("still there")


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


def test_a_worker_survives_what_interrupts_the_run() -> None:
    """All signals at once, in a process of its own; the clock that ends it later is running, and not before SIGTERM."""
    code = (
        "import os, signal\n"
        "from wav2vec2.training.saving.interruption import ignore_interrupts\n"
        "ignore_interrupts(3)\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
        "before = signal.alarm(0)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "import sys; sys.stdout.write(f'{before} {0 < signal.alarm(0) <= 60}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 True", "")


def test_workers_end_with_their_process() -> None:
    """Ctrl-C and SIGTERM to all processes of a run: its workers deliver what is left, and end without a word."""
    code = (
        "import os, signal, torch\n"
        "from torch.utils.data import DataLoader\n"
        "from wav2vec2.training.saving.interruption import Interruption, ignore_interrupts\n"
        "loader = DataLoader(range(40), batch_size=1, num_workers=2, worker_init_fn=ignore_interrupts)\n"
        "seen = 0\n"
        "with Interruption() as interruption:\n"
        "    for batch in loader:\n"
        "        seen += 1\n"
        "        if seen == 5:\n"
        "            os.killpg(0, signal.SIGINT)\n"
        "            os.killpg(0, signal.SIGTERM)\n"
        "import sys; sys.stdout.write(f'{seen} {interruption.requested}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, start_new_session=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout in ("40 SIGINT", "40 SIGTERM")


def test_the_worker_piece_is_a_worker_init_function() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    try:
        ignore_interrupts(0)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)
