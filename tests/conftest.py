from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["MPLBACKEND"] = "Agg"
# Many Rays are started in this one process, and Ray keeps from the first of them whether it asks for tokens. What is
# said of tokens is tested in processes of its own.
os.environ["RAY_AUTH_MODE"] = "disabled"

import pytest
import torch
from stores import S3, forget_file_systems, running_s3

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Decoded images of this run's data sets; the user's own stay untouched."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCP_RAY_STORE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def no_cloud() -> Iterator[None]:
    """s3:// means nothing outside this machine: no credentials, and an endpoint where nobody listens."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        yield


@pytest.fixture(scope="session")
def s3(no_cloud: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """An S3-compatible server of this machine, which s3:// means from here on."""
    with running_s3(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        forget_file_systems()  # one that was made before has no credentials
        yield server
        forget_file_systems()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference values and real data that lie beside the repository, never inside it."""
    folder = Path(__file__).parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the reference values in {folder.name}/ beside the repository")
    return folder


@pytest.fixture
def published(shared: Path) -> Path:
    """The published tables, without images."""
    return shared / "data" / "metadata"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Writes a search space and reads it as the commands do."""
    from scp_ray.config import read_space

    def read(text: str | bytes, **options: Any) -> dict[str, Any]:
        path = tmp_path / "space.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_space(str(path), **options)

    return read
