"""How many callers arrive: simulated ones, in voices never trained on, over clean and noisy lines.

    python examples/call_routing/simulate.py outputs/telephone/model/model --output outputs/calls

Every call is kept as a line of calls.jsonl as soon as it has ended; started again, it goes on from there. The results
are written to results.json and results.md: the shares of callers who came to the right place, to the operator and to a
wrong place, with 95 % intervals (Wilson). Half as many as call for something call for nothing that there is.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from caller import SimulatedCaller, plan_of
from dialogue import Dialogue, read_dialogue
from recognisers import Model
from router import Router
from voices import CALLERS, people, spoken

from wav2vec2 import StreamingRecogniser
from wav2vec2.files.replaced_file import replaced_file

#: The lines that everybody calls over: speech above noise in dB.
LINES: dict[str, float | None] = {"clean": None, "20 dB": 20.0, "10 dB": 10.0}

#: Seconds that sound is waited for together, of a wait of 1.92: half the work of the default, the same wait.
BLOCK = 1.28

#: What each process has loaded.
_prepared: dict[str, Any] = {}


@dataclass(frozen=True)
class Trial:
    """One call that is to be made."""

    caller: int
    #: The destination; None: something else altogether.
    wanted: str | None
    line: str


def trials(dialogue: Dialogue, callers: int) -> Iterator[Trial]:
    """Every caller over every line, by turns, so that what was measured is balanced at any time."""
    for number in range(callers):
        for line in LINES:
            yield Trial(number, dialogue.destinations[number % len(dialogue.destinations)], line)
        if number % 2:
            for line in LINES:
                yield Trial(number, None, line)


def prepare(model: str, dialogue: Dialogue) -> None:
    """Load what a process needs for its calls."""
    torch.set_num_threads(1)
    _prepared["router"] = Router(
        dialogue,
        Model(StreamingRecogniser.from_pretrained(model, device="cpu", block=BLOCK, beam=16)),
        line_seconds=60.0,
    )
    _prepared["dialogue"] = dialogue


def call(trial: Trial) -> dict[str, Any]:
    """What became of one call."""
    dialogue: Dialogue = _prepared["dialogue"]
    began = time.monotonic()
    voice = next(islice(people(CALLERS), trial.caller, None))
    plan = plan_of(dialogue, voice, trial.wanted, trial.caller)
    (clips,) = spoken([(voice, plan.texts())], 1)
    speech = dict(zip(plan.texts(), clips, strict=True))
    caller = SimulatedCaller(dialogue, plan, speech, LINES[trial.line], trial.caller)
    record = _prepared["router"].lead(caller)
    right = record.at == (trial.wanted or dialogue.operator)
    became = "right" if right else "operator" if record.ended == "operator" else "wrong"
    clock = round(time.monotonic() - began, 2)
    return {
        **asdict(trial),
        "voice": voice.espeak_name,
        "became": became,
        "clock": clock,
        "said": caller.said,
    } | asdict(record)


def wilson(count: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share.

    >>> [round(end, 3) for end in wilson(9, 10)]
    [0.596, 0.982]
    """
    z, share = 1.959964, count / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def results(calls: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each kind of caller and line."""
    rows = []
    for kind in ("wants a destination", "wants something else"):
        for line in LINES:
            group = [
                one for one in calls if one["line"] == line and (one["wanted"] is None) == (kind[6:] != "a destination")
            ]
            if not group:
                continue
            row: dict[str, Any] = {"caller": kind, "line": line, "calls": len(group)}
            for became in ("right", "operator", "wrong"):
                count = sum(one["became"] == became for one in group)
                row[became] = {"count": count, "share": count / len(group), "interval": wilson(count, len(group))}
            row["mean_turns"] = sum(len(one["turns"]) for one in group) / len(group)
            row["mean_seconds"] = sum(one["seconds"] for one in group) / len(group)
            row["longest_seconds"] = max(one["seconds"] for one in group)
            row["voices"] = len({one["voice"].partition("+")[2] for one in group})
            rows.append(row)
    return rows


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [
        "| the caller | line | calls | right place | operator instead | wrong place | turns | seconds | longest |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        shares = [
            f"{one['share']:.1%} ({100 * one['interval'][0]:.1f} to {100 * one['interval'][1]:.1f})"
            for one in (row["right"], row["operator"], row["wrong"])
        ]
        means = [f"{row['mean_turns']:.1f}", f"{row['mean_seconds']:.1f}", f"{row['longest_seconds']:.1f}"]
        lines.append("| " + " | ".join([row["caller"], row["line"], str(row["calls"]), *shares, *means]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """All calls that were not made before, and the table of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a recogniser, as README.md makes it")
    parser.add_argument("--dialogue", type=Path, default=Path(__file__).with_name("dialogue.yaml"))
    parser.add_argument("--callers", type=int, default=100, help="people who call, each over every line")
    parser.add_argument("--at-once", type=int, default=2, help="calls at a time")
    parser.add_argument("--output", type=Path, required=True, help="a folder")
    asked = parser.parse_args()
    dialogue = read_dialogue(asked.dialogue)
    asked.output.mkdir(parents=True, exist_ok=True)
    kept = asked.output / "calls.jsonl"
    calls = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()] if kept.is_file() else []
    done = {Trial(one["caller"], one["wanted"], one["line"]) for one in calls}
    waiting = [trial for trial in trials(dialogue, asked.callers) if trial not in done]
    with ProcessPoolExecutor(asked.at_once, get_context("spawn"), prepare, (asked.model, dialogue)) as pool:
        for made in as_completed([pool.submit(call, trial) for trial in waiting]):
            calls.append(made.result())
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(calls[-1]) + "\n")
    rows = results(calls)
    for name, text in (("results.json", json.dumps(rows, indent=1) + "\n"), ("results.md", as_table(rows))):
        with replaced_file(asked.output / name) as stream:
            stream.write(text.encode())
    print(as_table(rows), end="")


if __name__ == "__main__":
    main()
