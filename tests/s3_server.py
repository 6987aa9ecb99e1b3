"""An S3-compatible server on loopback, with trouble on request: python tests/s3_server.py PORT TROUBLE.

TROUBLE is a file that need not exist. While it holds {"status": 503}, every request is answered so; {"status": 0} cuts
the connection; "methods", "match" (a part of the path) and "delay_s" choose among requests and slow them. One request
at a time: a condition is looked at and the object written in one step, as S3 does.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple


class Troubled:
    """The server's application behind what the file asks for."""

    def __init__(self, application: Any, trouble: Path) -> None:
        self._application, self._trouble, self._turn = application, trouble, threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            asked = json.loads(self._trouble.read_text())
        except (OSError, ValueError):
            asked = {}
        chosen = environ["REQUEST_METHOD"] in asked.get("methods", [environ["REQUEST_METHOD"]])
        if chosen and asked.get("match", "") in environ["PATH_INFO"]:
            time.sleep(asked.get("delay_s", 0))
            if asked.get("status") == 0:
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                return []
            if "status" in asked:
                start_response(f"{asked['status']} Trouble", [("Content-Type", "text/plain")])
                return [b""]
        with self._turn:
            return list(self._application(environ, start_response))


if __name__ == "__main__":
    served = DomainDispatcherApplication(create_backend_app)
    run_simple(
        *("127.0.0.1", int(sys.argv[1]), Troubled(served, Path(sys.argv[2]))),
        threaded=True,
        request_handler=MotoRequestHandler,
    )
