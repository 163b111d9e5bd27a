"""`check_export`: does a folder that was exported before, and copied, quantised or edited since, still give what the
model gives?"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wav2vec2.evaluation.bootstrap import Interval
from wav2vec2.export.agreement import Agreement
from wav2vec2.export.checking_process import CheckingProcess, EndedError
from wav2vec2.export.export_card import RECORD, Figures
from wav2vec2.export.exporting import TARGETS, Exported
from wav2vec2.export.refusal import ExportError
from wav2vec2.export.targets import weight_files_of
from wav2vec2.export.word_errors import WordErrors
from wav2vec2.processing.tokenizer_files import read_json


@dataclass(frozen=True)
class Checked(Exported):
    """A folder that was there, and what was measured of it."""

    #: What is wrong with it, a line for each file.
    faults: list[str]


def check_export(
    model: str | Path,
    folder: str | Path,
    to: str | None = None,
    language: str | None = None,
    audio: Sequence[str | Path] = (),
    data: str | Path | None = None,
) -> Checked:
    """Compare a folder with the model it is of, as `export_model` does before it writes one: outputs and texts in the
    folder's own runtime on the clips in `audio` or a made one, and with `data`, a manifest, both word error rates.
    The files beside the weights must say what the model says.

    What the folder is for, and its language, are in its `export.json`, unless they are given. Its files may come from
    anywhere: they are opened in another process, which may take so much time and memory and no more.
    """
    place = Path(folder)
    to, language = _described(place, to, language)
    files = weight_files_of(TARGETS[to], place)
    if not files:
        raise ExportError(f"{place}: is no export for {to}: has no {' and no '.join(TARGETS[to].files.values())}")
    compared = {"model": str(model), "language": language, "audio": [str(one) for one in audio]}
    figures, faults = {}, []
    with closing(_Asker(compared | {"data": None if data is None else str(data)})) as asker:
        about = {"target": to, "folder": str(place)}
        faults += asker.answer("its files", about)["faults"]
        for precision in () if faults and TARGETS[to].reads_settings else files:
            answer = asker.answer(TARGETS[to].files[precision], about | {"precision": precision.value})
            faults += answer["faults"]
            if "figures" in answer:
                figures[precision] = _figures(answer["figures"])
    return Checked(place, to, figures, faults)


class _Asker:
    """Asks a process that knows the model, and another one after it has ended over a question."""

    def __init__(self, compared: dict[str, Any]) -> None:
        self._compared = compared
        self._process: CheckingProcess | None = None

    def answer(self, what: str, request: dict[str, Any]) -> dict[str, Any]:
        """With `faults`, and perhaps `figures`. A process that ends over `what` is a fault of that."""
        if self._process is None:
            self._process = CheckingProcess()
            self._asked(self._process, self._compared)
        try:
            return self._asked(self._process, request)
        except EndedError as error:
            self.close()
            return {"faults": [f"{what}: {request['target']} {error}; export the model again"]}

    def close(self) -> None:
        """End what is running."""
        if self._process is not None:
            self._process.close()
            self._process = None

    @staticmethod
    def _asked(process: CheckingProcess, request: dict[str, Any]) -> dict[str, Any]:
        answer = process.ask(request)
        if "missing" in answer:
            raise ImportError(answer["missing"])
        if "refused" in answer:
            raise ExportError(answer["refused"])
        return answer


def _figures(record: dict[str, Any]) -> Figures:
    """Figures as the other process wrote them."""
    errors = record["word_errors"]
    if errors is not None:
        interval = errors["interval"]
        errors = WordErrors(**errors | {"interval": None if interval is None else Interval(**interval)})
    return Figures(record["files"], record["bytes"], Agreement(**record["agreement"]), errors)


def _described(place: Path, to: str | None, language: str | None) -> tuple[str, str | None]:
    """What a folder is for, and its language: as given, else by its own word."""
    if not place.is_dir():
        raise ExportError(f"{place}: no such folder")
    if to is None or (language is None and (place / RECORD).is_file()):
        if not (place / RECORD).is_file():
            raise ExportError(f"{place}: has no {RECORD}, which says what runtime it is for: say it (`to`)")
        record = read_json(place / RECORD)
        record = record if isinstance(record, dict) else {}
        to, language = to or record.get("target"), language or record.get("language")
    if not isinstance(to, str) or to not in TARGETS:
        raise ExportError(f"{place / RECORD}: target is {to!r}: must be one of {', '.join(TARGETS)}")
    if not isinstance(language, str | None):
        raise ExportError(f"{place / RECORD}: language is {language!r}: must be a name, or null")
    return to, language
