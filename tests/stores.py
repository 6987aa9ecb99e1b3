"""A store to test against: an S3-compatible server of this machine, a bucket, and trouble."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scp_ray.places import any_path
from scp_ray.remote import RemotePath, file_system


class S3:
    """One server. Objects live as long as it does."""

    def __init__(self, folder: Path, port: int) -> None:
        self._trouble = folder / "trouble"
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",  # of the library: the patience that is tested is ours
        }

    def folder(self) -> RemotePath:
        """A new bucket with a prefix."""
        bucket = f"bucket-{uuid.uuid4().hex[:12]}"
        file_system("s3").mkdir(bucket)
        path = any_path(f"s3://{bucket}/sweeps")
        assert isinstance(path, RemotePath)
        return path

    @contextmanager
    def trouble(self, **asked: Any) -> Iterator[None]:
        """See s3_server.py."""
        self._trouble.write_text(json.dumps(asked))
        try:
            yield
        finally:
            self._trouble.unlink(missing_ok=True)

    def requests(self) -> list[str]:
        """Method and path of every request so far."""
        return self._trouble.with_suffix(".log").read_text().splitlines()


def forget_file_systems() -> None:
    """fsspec and we make each once a process, with the environment of that moment."""
    import s3fs

    file_system.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()


@contextmanager
def running_s3(folder: Path) -> Iterator[S3]:
    """A server, ended when the block is."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).with_name("s3_server.py")
    with (folder / "server.err").open("w") as errors:
        command = [sys.executable, str(script), str(port), str(folder / "trouble")]
        server = subprocess.Popen(command, stdout=errors, stderr=errors)
    try:
        for _ in range(600):
            with socket.socket() as client:
                if not client.connect_ex(("127.0.0.1", port)):
                    break
            assert server.poll() is None, (folder / "server.err").read_text()
            time.sleep(0.1)
        else:
            raise AssertionError("the S3 server does not answer")
        yield S3(folder, port)
    finally:
        server.kill()
        server.wait()


def files_below(folder: RemotePath) -> set[str]:
    """Names of all objects below, relative to it."""
    names = file_system(folder.protocol).find(str(folder))
    return {name.lstrip("/").removeprefix(f"{folder.path}/") for name in names}


def fetched(folder: RemotePath, to: Path) -> Path:
    """A copy of all objects below, on this machine."""
    for name in files_below(folder):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_bytes((folder / name).read_bytes())
    return to
