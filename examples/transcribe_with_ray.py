"""Transcripts of parquet shards on a Ray cluster, with Ray Data: what `wav2vec2 transcribe` does of shards without one.

    pip install "ray[data]"
    python examples/transcribe_with_ray.py shards/ transcripts/ --model outputs/ctc/model --workers 2
    python examples/transcribe_with_ray.py s3://bucket/shards s3://bucket/transcripts --model ... --workers 16 --gpus 1

The shards have a column `audio` of encoded audio (bytes, or `datasets`' {"bytes", "path"}) and a column `id`. Ray reads
them, hands blocks of rows to `--workers` processes on its machines, each of which loads the model once, starts a block
again elsewhere where a machine is lost, and writes JSON lines: the rows of `wav2vec2 transcribe`. A clip that cannot be
used has its `error` in its row; a file that is no parquet ends the run, where `wav2vec2 transcribe` passes it over.
Without GPUs, leave Ray a core that holds no model: it reads and writes with it.

Take this where a cluster runs Ray already, or where transcripts are one step of a larger pipeline. It has no memory of
what is finished: a run that is started again begins again, where `wav2vec2 transcribe` goes on.
"""

import argparse
import json
from typing import Any

import numpy as np

from wav2vec2 import Transcriber
from wav2vec2.inference.corpus_transcripts import rows_of
from wav2vec2.shards.clip_collections import clip_of_row


class Recogniser:
    """A model in a worker process, which is called with blocks of rows."""

    def __init__(self, model: str) -> None:
        self._transcriber = Transcriber.from_pretrained(model)

    def __call__(self, block: dict[str, Any]) -> dict[str, Any]:
        """A row of JSON for each row, in order; what they are of differs from row to row, so they are texts."""
        clips = [clip_of_row(audio, id, "clip") for audio, id in zip(block["audio"], block["id"], strict=True)]
        rows = [json.dumps(row, ensure_ascii=False) for row in rows_of(self._transcriber, clips)]
        return {"row": np.array(rows, dtype=object)}


def main() -> None:
    """Read, transcribe, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("shards", help="a parquet file or a folder of them, anywhere that Ray reads")
    parser.add_argument("output", help="the folder for the files of JSON lines")
    parser.add_argument("--model", required=True, help="a folder that every machine sees, or a name on the Hub")
    parser.add_argument("--workers", type=int, default=1, help="processes that hold the model")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each of them")
    parser.add_argument("--rows", type=int, default=64, help="clips that a process is given at a time")
    options = parser.parse_args()
    import ray.data

    transcripts = (
        ray.data.read_parquet(options.shards)
        .select_columns(["id", "audio"])
        .map_batches(
            Recogniser,
            fn_constructor_args=(options.model,),
            batch_size=options.rows,
            concurrency=options.workers,
            num_gpus=options.gpus,
        )
    )
    transcripts.map(lambda row: json.loads(row["row"])).write_json(options.output)


if __name__ == "__main__":
    main()
