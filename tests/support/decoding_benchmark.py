"""The module `benchmarks/decoding.py`, which belongs to no package."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def decoding_benchmark() -> ModuleType:
    """The benchmark as a module."""
    path = Path(__file__).parents[2] / "benchmarks" / "decoding.py"
    spec = importlib.util.spec_from_file_location("decoding_benchmark_script", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module
