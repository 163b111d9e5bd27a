"""Linear layers of an ONNX file in 8 bits; convolutions, norms and softmax stay in single precision.

Convolutions in 8 bits spoil what the model hears: docs/export.md has the error rates.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from wav2vec2.export.refusal import library

#: What linear layers are in a graph.
LINEAR = ("MatMul", "Gemm")


def quantise(source: Path, target: Path, operations: Sequence[str] = LINEAR) -> None:
    """Write `source` again with the weights of these operations in 8 bits, a scale for each of their outputs; what
    enters them is quantised as it comes ("dynamic").

    Weights use 7 of the 8 bits, because processors without instructions for it (VNNI) add pairs of products in 16 bits,
    where larger ones saturate: the file is to give the same everywhere.
    """
    quantization = library("onnxruntime.quantization", "export")
    with _quietly():
        quantization.quantize_dynamic(
            source,
            target,
            op_types_to_quantize=list(operations),
            per_channel=True,
            reduce_range=True,
            weight_type=quantization.QuantType.QInt8,
            use_external_data_format=source.with_name(f"{source.name}.data").is_file(),
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """The quantiser tells the root logger that it does not know shapes which it does not need."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
