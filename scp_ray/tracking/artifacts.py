"""What hangs on a sweep's parent run: its report, its tables, models that are loaded without unpickling.

Told twice, nothing changes: a list of the files' digests lies beside them, and a model is known by what it was made of.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pytorch
import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray
from torch import nn

from scp_ray.places import AnyPath

DIGESTS = "artifacts.json"
_TAG, _MODEL = "scp_ray.artifacts", "scp_ray.model"


@dataclass(frozen=True)
class TrackedModel:
    """A model to log: called with ``example``'s arrays, it gives logits (N, K)."""

    name: str
    key: str  # changes when the model does
    module: nn.Module
    example: Mapping[str, NDArray[Any]]  # inputs by name, of two images: a batch of one would be the only size it takes
    classes: int
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Attached:
    """Files by their place below the run's artifacts, and models."""

    files: Mapping[str, AnyPath | bytes]
    models: tuple[TrackedModel, ...] = ()


def attach(
    client: MlflowClient, uri: str, experiment: str, run_id: str, tags: Mapping[str, str], attached: Attached
) -> dict[str, str]:
    """Bring a run to ``attached``; returns the tags that are new. Files that are no longer there are left."""
    new = _put_files(client, run_id, tags, attached.files)
    for model in attached.models:
        if not _is_logged(client, experiment, model):
            with _speaking_to(uri), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of MLflow's and torch's own insides, nothing that a person can change
                _log_model(client, experiment, run_id, model)
    return new


def _put_files(
    client: MlflowClient, run_id: str, tags: Mapping[str, str], files: Mapping[str, AnyPath | bytes]
) -> dict[str, str]:
    """The list of digests goes last, and the tag that names it after it: what was cut off is sent again."""
    contents = {place: each if isinstance(each, bytes) else each.read_bytes() for place, each in sorted(files.items())}
    digests = {place: hashlib.sha256(content).hexdigest() for place, content in contents.items()}
    whole = json.dumps(digests, indent=1).encode()
    told = {_TAG: hashlib.sha256(whole).hexdigest()}
    if not files or tags.get(_TAG) == told[_TAG]:
        return {}
    known = _digests_there(client, run_id) if _TAG in tags else {}
    with tempfile.TemporaryDirectory(prefix="scp_ray-") as folder:
        for place, content in [*contents.items(), (DIGESTS, whole)]:
            if known.get(place) == digests.get(place, ""):
                continue
            path = Path(folder, Path(place).name)
            path.write_bytes(content)
            client.log_artifact(run_id, str(path), str(Path(place).parent) if "/" in place else None)
            path.unlink()
    client.set_tag(run_id, _TAG, told[_TAG])
    return told


def _digests_there(client: MlflowClient, run_id: str) -> dict[str, str]:
    """Nothing where the list cannot be had: then all is sent again."""
    with tempfile.TemporaryDirectory(prefix="scp_ray-") as folder:
        try:
            path = Path(client.download_artifacts(run_id, DIGESTS, folder))
            found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        except (MlflowException, OSError, ValueError):
            return {}
        return found


def _is_logged(client: MlflowClient, experiment: str, model: TrackedModel) -> bool:
    """Whether it is there whole; what an earlier attempt has left of it goes."""
    found = client.search_logged_models([experiment], filter_string=f"tags.`{_MODEL}` = '{model.key}'")
    for each in found:
        if each.status != LoggedModelStatus.READY:
            client.delete_logged_model(each.model_id)
    return any(each.status == LoggedModelStatus.READY for each in found)


def _log_model(client: MlflowClient, experiment: str, run_id: str, model: TrackedModel) -> None:
    arrays = tuple(model.example.values())
    single = len(arrays) == 1  # then it has no name: MLflow's pyfunc gives what has one as a dict, which torch refuses
    inputs = [
        TensorSpec(each.dtype, (-1, *each.shape[1:]), None if single else name) for name, each in model.example.items()
    ]
    outputs = [TensorSpec(np.dtype("float32"), (-1, model.classes))]
    told = {_MODEL: model.key, **model.tags}
    made = client.create_logged_model(experiment, model.name, run_id, tags=told, params=dict(model.params))
    Model.log(
        artifact_path=None,
        flavor=mlflow.pytorch,
        run_id=run_id,
        model_id=made.model_id,  # made first: else it goes to the process's own experiment, not to the run's
        pytorch_model=model.module,
        signature=ModelSignature(Schema(inputs), Schema(outputs)),
        input_example=arrays[0] if single else arrays,
        serialization_format="pt2",
        pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}"],  # else MLflow loads it to find out
    )


@contextmanager
def _speaking_to(uri: str) -> Iterator[None]:
    """What logs models asks for no address: it speaks to the process's own tracker."""
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
