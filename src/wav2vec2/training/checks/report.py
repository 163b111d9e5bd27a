"""What was found in the data of a run: problems that stop it, warnings, and notes, in one message and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.processing.text_normalization import shorten

#: File that a report is saved as.
REPORT_FILE = "validation.json"

#: Examples of one finding that are shown and saved.
EXAMPLES = 5

#: A "problem" stops the run, a "warning" is for a person to look at, a "note" says what will be done.
Severity = Literal["problem", "warning", "note"]

_ORDER: tuple[Severity, ...] = ("problem", "warning", "note")
_TITLES = {"problem": "to be put right", "warning": "to be looked at", "note": "for information"}


@dataclass(frozen=True)
class Example:
    """One clip of a finding: its id, a piece of its text, and in `detail` what was measured of it."""

    id: str
    text: str = ""
    detail: str = ""

    def __str__(self) -> str:
        inside = " ".join(part for part in (self.text, f"({self.detail})" if self.detail else "") if part)
        return f"{self.id}: {inside}" if inside else self.id


@dataclass(frozen=True)
class Finding:
    """One thing that was found."""

    #: Its name for programs.
    kind: str
    #: What follows from it.
    severity: Severity
    #: The data it was found in ("train" or "valid"), or "model".
    where: str
    #: What was found, for people.
    message: str
    #: How many clips have it ...
    count: int = 0
    #: ... of how many; 0 where clips do not count.
    total: int = 0
    #: Some of these clips.
    examples: Sequence[Example] = ()
    #: What would be right.
    right: str = ""

    def line(self) -> str:
        """The finding as a paragraph: where, how many, what, what would be right, examples."""
        percent = 100 * self.count / max(1, self.total)
        percentage = f"{percent:.1f} %" if percent >= 0.1 else f"{percent:.2g} %"
        share = f"{self.count} of {self.total} ({percentage}) " if self.total else ""
        text = f"{self.where}: {share}{self.message}"
        if self.right:
            text += f"; right would be: {self.right}"
        return "\n      ".join([text, *map(str, self.examples[:EXAMPLES])])


@dataclass
class ValidationReport:
    """All findings, and how much was looked at (`checked`). Show it with `print(report)`."""

    findings: list[Finding] = field(default_factory=list)
    checked: dict[str, Any] = field(default_factory=dict)

    def of(self, severity: Severity) -> list[Finding]:
        """The findings of one severity."""
        return [finding for finding in self.findings if finding.severity == severity]

    @property
    def problems(self) -> list[Finding]:
        """The findings that stop the run."""
        return self.of("problem")

    def lines(self) -> list[str]:
        """The report as text, the gravest first."""
        numbers = [(len(self.of(severity)), severity) for severity in _ORDER]
        counts = ", ".join(f"{number} {severity}{'' if number == 1 else 's'}" for number, severity in numbers)
        lines = [f"data checked before training: {counts}"]
        for severity in _ORDER:
            found = self.of(severity)
            lines += [f"  {_TITLES[severity]}:"] if found else []
            lines += [f"    - {finding.line()}" for finding in found]
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it; clips are named as their manifest names them."""
        findings = [asdict(finding) | {"examples": list(map(asdict, finding.examples))} for finding in self.findings]
        return {"ok": not self.problems, "checked": self.checked, "findings": findings}

    def save(self, folder: Path | str) -> Path:
        """Write `validation.json` into `folder`."""
        path = Path(folder) / REPORT_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(path) as stream:
            stream.write(json.dumps(self.to_dict(), ensure_ascii=False, indent=2).encode() + b"\n")
        return path


class DataProblemsError(ValueError):
    """The data do not go with the model or the processor: everything that is wrong, at once. `report` has it all."""

    def __init__(self, report: ValidationReport) -> None:
        super().__init__(str(report))
        self.report = report


def example(name: str, text: str | None = None, detail: str = "") -> Example:
    """An example of a clip, its text cut. A machine's folders are no part of a report: absolute ids lose them."""
    shown = Path(name).name if Path(name).is_absolute() else name
    return Example(shown, "" if text is None else shorten(text), detail)


def by_share(count: int, total: int, allowed: float) -> Severity:
    """Bad clips are left out and listed while they are few; more than the run allows are a problem of the data."""
    return "problem" if count > allowed * total else "warning"
