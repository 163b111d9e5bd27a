"""Where nobody reads the output any more (`| head -1`), a command ends without a word, and 141 as others do."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest
import typer

from wav2vec2.command_line.stopping import UNREAD, told


@contextmanager
def unread() -> Iterator[TextIO]:
    """Standard output, whose reader has gone."""
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as output, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", output)
        yield output


def test_a_reader_that_left_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    with unread() as output:
        with pytest.raises(typer.Exit) as end, told("listen"):
            typer.echo("a line")
        output.write("what Python would write when it ends")
        output.flush()
    assert end.value.exit_code == UNREAD == 141
    assert capfd.readouterr().err == ""


def test_what_a_command_says_of_its_output_is_left_out_too(capfd: pytest.CaptureFixture[str]) -> None:
    """`transcribe` adds to an error of its output what is done, and closes it then."""
    with unread(), pytest.raises(typer.Exit) as end, told("transcribe"):
        try:
            typer.echo("a line")
        except OSError as error:
            raise type(error)(f"standard output: cannot be written: {error.strerror}") from error
        finally:
            typer.echo("]")
    assert end.value.exit_code == UNREAD
    assert capfd.readouterr().err == ""


def test_another_pipe_that_breaks_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    reads, writes = os.pipe()
    with os.fdopen(writes, "w") as output, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", output)
        with pytest.raises(typer.Exit) as end, told("push"):
            raise BrokenPipeError("the Hub has gone")
    os.close(reads)
    assert end.value.exit_code == 1
    assert capfd.readouterr().err == "push: the Hub has gone\n"
