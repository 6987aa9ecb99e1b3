"""A Ray of our own, in a process of its own, which starts while the driver still imports and checks.

Nothing is forked off a driver that has threads and much memory, and a request that is refused leaves no Ray half up.
"""

from __future__ import annotations

import json
import os
import signal
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
    "from scp_ray.tune.ray_host import host; host(given['options'])"
)


class OwnRay:
    """On its way from the moment it is made. A context manager that ends it.

    Its process also ends with this one, however that ends: it waits for the end of its standard input.

    Args:
        options: of ``ray.init``, such as num_cpus.
    """

    def __init__(self, **options: Any) -> None:
        given = json.dumps({"path": sys.path, "options": options})
        # in a session of its own: what signals our process group, for us to end, ends no Ray under our hands
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _HOST, given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._answer: dict[str, str] | None = None

    def address(self) -> str:
        """host:port, once it is up. Raises ResourceError where Ray cannot be started."""
        if self._answer is None:
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
            self._answer = json.loads(line) if line else {"error": self._died()}
        if "error" in self._answer:
            raise ResourceError(self._answer["error"])
        return self._answer["address"]

    def end(self) -> None:
        """End it, up or not; a second time does nothing."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            for each in reversed([self._process.pid, *signals.below(self._process.pid)]):
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> OwnRay:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _died(self) -> str:
        return (
            f"Ray cannot be started: its process ended with exit code {self._process.wait()}. What it said last is "
            "above; the usual causes are too little memory or disk under /tmp."
        )
