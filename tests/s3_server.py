"""An S3-compatible server on loopback, with trouble on request: python tests/s3_server.py PORT TROUBLE.

TROUBLE is a file. While it is there, {"status": 503} answers every request so, and {"status": 0} cuts the connection.
"methods" and "match" (a part of the path) choose among requests, "times" says how many of them, "after" makes the
request take effect first, "delay_s" slows it, "careless" ignores its conditions. Requests take effect one at a time: a
condition is looked at and the object written in one step, as S3 does. Every request is noted in TROUBLE.log.
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
        self._log = trouble.with_suffix(".log").open("a", buffering=1)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._turn:
            asked = self._asked(environ)
            self._log.write(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}\n")
        time.sleep(asked.get("delay_s", 0))
        if asked.get("careless"):
            for condition in ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"):
                environ.pop(condition, None)
        if "status" in asked:
            if asked.get("after"):
                with self._turn:
                    list(self._application(environ, lambda *_: None))
            if not asked["status"]:
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            start_response(f"{asked['status'] or 500} Trouble", [("Content-Type", "text/plain")])
            return [b""]
        with self._turn:
            return list(self._application(environ, start_response))

    def _asked(self, environ: dict[str, Any]) -> dict[str, Any]:
        """What is to be done to this request."""
        try:
            asked: dict[str, Any] = json.loads(self._trouble.read_text())
        except (OSError, ValueError):
            return {}
        method = environ["REQUEST_METHOD"]
        if method not in asked.get("methods", [method]) or asked.get("match", "") not in environ["PATH_INFO"]:
            return {}
        if "times" in asked:
            asked["times"] -= 1
            if asked["times"]:
                self._trouble.write_text(json.dumps(asked))
            else:
                self._trouble.unlink()
        return asked


if __name__ == "__main__":
    served = DomainDispatcherApplication(create_backend_app)
    run_simple(
        *("127.0.0.1", int(sys.argv[1]), Troubled(served, Path(sys.argv[2]))),
        threaded=True,
        request_handler=MotoRequestHandler,
    )
