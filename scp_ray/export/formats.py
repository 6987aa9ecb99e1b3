"""The files a model can be written as, and each read back as its users will run it."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scp_ray.errors import ConfigError
from scp_ray.export.compact import INSTALL
from scp_ray.export.cost import Call
from scp_ray.export.model import Classifier

BATCH = "batch"  # the name of the dimension whose size is free


@dataclass(frozen=True)
class Format:
    """How a classifier is written and read back."""

    file: str
    write: Callable[[Classifier, Path, Sequence[Tensor]], None]
    read: Callable[[Path, Mapping[str, Any]], Call]
    needs: tuple[str, ...] = ()  # packages of the extra `export`
    runs_on: str = "torch"


def format_named(name: str) -> Format:
    """Raises ConfigError for an unknown one, and where what it takes is not installed."""
    if name not in FORMATS:
        raise ConfigError(f"--format {name}: allowed are {', '.join(FORMATS)}.")
    missing = [package for package in FORMATS[name].needs if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigError(f"--format {name} needs {' and '.join(missing)}, not installed here: {INSTALL}")
    return FORMATS[name]


def _write_safetensors(classifier: Classifier, file: Path, inputs: Sequence[Tensor]) -> None:
    from safetensors.torch import save

    state = {name: value.contiguous() for name, value in classifier.learner.state_dict().items()}
    file.write_bytes(save(state))


def _read_safetensors(file: Path, content: Mapping[str, Any]) -> Call:
    from scp_ray.export.rebuild import load_weights

    return load_weights(file, content)


def _write_program(classifier: Classifier, file: Path, inputs: Sequence[Tensor]) -> None:
    with _quiet():
        program = torch.export.export(classifier, tuple(inputs), dynamic_shapes=_free_batch(inputs))
        torch.export.save(program, file)


def _read_program(file: Path, content: Mapping[str, Any]) -> Call:
    with _quiet():
        program: Call = torch.export.load(file).module()
    return program


def _write_onnx(classifier: Classifier, file: Path, inputs: Sequence[Tensor]) -> None:
    names = ["image", "group"][: len(inputs)]
    with _quiet():
        torch.onnx.export(
            classifier,
            tuple(inputs),
            file,
            dynamo=True,
            input_names=names,
            output_names=["logits"],
            dynamic_shapes=_free_batch(inputs),
            external_data=False,  # one file; a protobuf holds 2 GB
            verbose=False,
        )


def _read_onnx(file: Path, content: Mapping[str, Any]) -> Call:
    """Run by onnxruntime, with as many threads as torch has."""
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def call(*inputs: Tensor) -> Tensor:
        (logits,) = session.run(None, dict(zip(names, (part.numpy() for part in inputs), strict=True)))
        return torch.from_numpy(logits)

    return call


def _free_batch(inputs: Sequence[Tensor]) -> tuple[dict[int, Any], ...]:
    batch = torch.export.Dim(BATCH)
    return tuple({0: batch} for _ in inputs)


@contextmanager
def _quiet() -> Iterator[None]:
    """What torch's exporters say of their own insides is no news to a person who exports a model."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


FORMATS = {
    "safetensors": Format("model.safetensors", _write_safetensors, _read_safetensors),
    "torch-export": Format("model.pt2", _write_program, _read_program),
    "onnx": Format("model.onnx", _write_onnx, _read_onnx, ("onnx", "onnxscript", "onnxruntime"), "onnxruntime"),
}
