"""A Ray of our own, in a process of its own, which starts while the driver still imports and checks.

Nothing is forked off a driver that has threads and much memory, and a request that is refused leaves no Ray half up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from typing import Any

from scp_ray import signals
from scp_ray.errors import ResourceError

END_S = 15.0  # Ray ends its own processes within two seconds; what has not ended then is killed
# the host finds what this process finds, however it was started; Ray's workers ask the driver for its path
_HOST = (
    "import json, sys; given = json.loads(sys.argv[1]); sys.path[:] = given['path']; "
    "from scp_ray.tune.ray_host import host; host(given['answer'], given['options'])"
)


class OwnRay:
    """On its way from the moment it is made. A context manager that ends it.

    Its process also ends with this one, however that ends: it waits for the end of its standard input.

    Args:
        options: of ``ray.init``, such as num_cpus.
    """

    def __init__(self, **options: Any) -> None:
        answer, theirs = os.pipe()
        self._told = os.fdopen(answer)
        given = json.dumps({"path": sys.path, "answer": theirs, "options": options})
        # in a session of its own: what signals our process group, for us to end, ends no Ray under our hands
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _HOST, given],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs],
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        self._answer: dict[str, str] | None = None

    def address(self) -> str:
        """host:port, once it is up; from then on it is ended in order. Raises ResourceError where Ray cannot start."""
        assert self._process.stdin is not None
        if self._answer is None:
            line = self._told.readline()
            self._answer = json.loads(line) if line else {"error": self._died()}
            with suppress(BrokenPipeError):  # it has died since, which joining it will tell
                self._process.stdin.write(b"used")
                self._process.stdin.flush()
        if "error" in self._answer:
            raise ResourceError(self._answer["error"])
        return self._answer["address"]

    def end(self) -> None:
        """End it, up or not; a second time does nothing."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            signals.kill_below(self._process.pid)
            self._process.kill()
            self._process.wait()
        self._told.close()

    def __enter__(self) -> OwnRay:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _died(self) -> str:
        return (
            f"Ray cannot be started: its process ended with exit code {self._process.wait()}. What it said last is "
            "above; the usual causes are too little memory or disk under /tmp."
        )
