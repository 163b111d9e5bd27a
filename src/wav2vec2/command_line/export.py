"""`wav2vec2 export`: a model for another runtime."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wav2vec2.command_line.stopping import told

if TYPE_CHECKING:
    from wav2vec2.export import Exported
    from wav2vec2.export.targets import Precision


class Runtime(StrEnum):
    """What a model can be written for."""

    onnx = "onnx"
    sherpa_onnx = "sherpa-onnx"
    transformers_js = "transformers.js"
    openvino = "openvino"


def export(
    model: Annotated[str, typer.Argument(help="Folder or Hub name of a checkpoint.")],
    to: Annotated[
        Runtime | None, typer.Option("--to", help="The runtime it is for; with --check, where no export.json says it.")
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Also with linear layers in 8 bits.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder that is written; by default MODEL-RUNTIME here.")
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option(help="Language of a checkpoint with several, such as eng; once for each, each in its own folder."),
    ] = None,
    audio: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="A clip to compare with torch, once for each; or made vowels."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", "-d", exists=True, dir_okay=False, help="Manifest: its error rates go into the card."),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="A folder that was exported: compare it, and write nothing."),
    ] = None,
) -> None:
    """Write a model for another runtime, and check there that it gives what it gives here.

    A folder that does not is not written. The exit code is 1 as well where the error rate on --data rose by more than
    0.5 points and not by chance; that folder is there, and its card says so. With --check it is 1 where anything in the
    folder is wrong: a line for each file says what.
    """
    from wav2vec2.export import export_model

    several = language if language is not None and len(language) > 1 else None
    if check is not None:
        if int8 or output or several:
            raise typer.BadParameter("--check looks at one folder, and takes no --int8, --output or second --language")
        return _check(model, check, to, language[0] if language else None, audio or [], data)
    if to is None:
        raise typer.BadParameter(f"say which runtime, as --to onnx: {', '.join(Runtime)}", param_hint="--to")
    place = output if output is not None else Path(f"{Path(model).name}-{to.value}")
    raised = []
    with told("export"):
        for one in language or (None,):
            folder = place if several is None else place / str(one)
            exported = export_model(model, to.value, folder, int8, one, tuple(audio or ()), data)
            typer.echo(_lines(exported))
            raised += exported.too_many_errors
    _end_where_errors_rose(raised)


def _check(
    model: str, folder: Path, to: Runtime | None, language: str | None, audio: list[Path], data: Path | None
) -> None:
    from wav2vec2.export import check_export

    with told("export"):
        checked = check_export(model, folder, None if to is None else to.value, language, audio, data)
    typer.echo(_lines(checked, f"compared in {checked.target} with {model}"))
    for fault in checked.faults:
        typer.echo(f"export: {folder}: {fault}", err=True)
    _end_where_errors_rose(checked.too_many_errors)
    if checked.faults:
        raise typer.Exit(1)


def _end_where_errors_rose(raised: "list[Precision]") -> None:
    if raised:
        typer.echo("export: the error rate rose by more than 0.5 points, and not by chance", err=True)
        raise typer.Exit(1)


def _lines(exported: "Exported", done: str = "checked, see its README.md") -> str:
    from wav2vec2.evaluation.figures_in_words import percent

    lines = [f"{exported.folder}: {done}"]
    for precision, one in exported.figures.items():
        found, errors = one.agreement, one.word_errors
        texts = f", {found.same_texts} of {found.texts} texts the same" if found.texts else ""
        lines.append(
            f"{precision.value}: {one.bytes / 1e6:.1f} MB, outputs within {found.largest_difference:.2g} of torch's"
            f"{texts} ({found.runtime})"
        )
        if errors is not None:
            drawn = errors.interval
            between = "" if drawn is None else f" (95 %: {percent(drawn.low, True)} to {percent(drawn.high, True)})"
            lines.append(
                f"{precision.value}: WER {percent(errors.runtime)}, in torch {percent(errors.torch)}, change "
                f"{percent(errors.change, True)}{between}; {errors.same_texts} of {errors.recordings} texts the same"
            )
    return "\n".join(lines)
