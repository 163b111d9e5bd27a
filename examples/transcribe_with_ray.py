"""Transcripts of shards on a Ray cluster, with Ray Data: what `wav2vec2 transcribe` does of shards without one.

    pip install "ray[data]"
    python examples/transcribe_with_ray.py shards/ transcripts/ --model outputs/ctc/model --workers 2
    python examples/transcribe_with_ray.py s3://bucket/shards s3://bucket/transcripts --model ... --workers 16 --gpus 1

What goes in is what goes into `wav2vec2 transcribe`: parquet, tars, Shar, manifests, each as a folder, a pattern or an
address that every machine sees. Ray hands shards to `--workers` processes on its machines, each of which loads the
model once, starts a shard again elsewhere where a machine is lost, and writes JSON lines: the rows of `wav2vec2
transcribe`. A clip that cannot be used has its `error` in its row; so has a shard from where it is damaged on, or that
cannot be reached, and the exit code is then 1. Without GPUs, leave Ray a core that holds no model.

Take this where a cluster runs Ray already, or where transcripts are one step of a larger pipeline. It has no memory of
what is finished: a run that is started again begins again, where `wav2vec2 transcribe` goes on.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from wav2vec2 import Transcriber
from wav2vec2.inference.corpus_transcripts import rows_of
from wav2vec2.shards.clip_collections import Clip, Unit, units_of


class Recogniser:
    """A model in a worker process, which is called with the numbers of units."""

    def __init__(self, model: str, units: Sequence[Unit]) -> None:
        self._transcriber, self._units = Transcriber.from_pretrained(model), units

    def __call__(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """A row of JSON for each clip, in order; what they are of differs from row to row, so they are texts."""
        for found in rows_of(self._transcriber, reached(self._units[row["id"]])):
            yield {"bad": int("error" in found), "row": json.dumps(found, ensure_ascii=False)}


def reached(unit: Unit) -> Iterator[Clip]:
    """The clips of a unit; one that cannot be reached, and so has no more clips, has the reason."""
    try:
        yield from unit.clips()
    except (OSError, ValueError) as error:
        yield Clip(unit.source, error=str(error))


def main() -> int:
    """Read, transcribe, write; 1 if anything could not be used."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "shards", help="shards or manifests: a file, a folder of them, or an address that all machines see"
    )
    parser.add_argument("output", help="the folder for the files of JSON lines")
    parser.add_argument("--model", required=True, help="a folder that every machine sees, or a name on the Hub")
    parser.add_argument("--workers", type=int, default=1, help="processes that hold the model")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each of them")
    options = parser.parse_args()
    import ray.data

    units = units_of([options.shards])
    transcripts = (
        ray.data.range(len(units), override_num_blocks=len(units))
        .flat_map(
            Recogniser,
            fn_constructor_args=(options.model, units),
            concurrency=options.workers,
            num_gpus=options.gpus,
        )
        .materialize()
    )
    transcripts.map(lambda row: json.loads(row["row"])).write_json(options.output)
    return int(transcripts.sum("bad") > 0)


if __name__ == "__main__":
    sys.exit(main())
