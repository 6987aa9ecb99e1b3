"""A real MLflow server, and a proxy in front of it that breaks on demand. No more than the standard library."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Server:
    """``mlflow server`` in a process group of its own, on an SQLite file that outlives it.

    Making that file takes longest; ``like`` is one to copy.
    """

    def __init__(self, folder: Path, like: Path | None = None) -> None:
        self.database, self.port = folder / "server.db", free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._log = folder / "server.log"
        if like:
            self.database.write_bytes(like.read_bytes())
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{self.database}"]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, cwd=self.database.parent
            )
        for _ in range(1200):
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                time.sleep(0.1)
        raise AssertionError(f"the MLflow server did not start: {self._log.read_text()}")

    def signal(self, number: int) -> None:
        """To all of its processes."""
        os.killpg(self._process.pid, number)

    def cpu_seconds(self) -> float:
        """What all of its processes have used of a processor since they started."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has ended
                fields = stat.read_text().rpartition(")")[2].split()  # behind the name: state, parent, group, ...
                ticks += sum(map(int, fields[11:13])) if int(fields[2]) == self._process.pid else 0
        return ticks / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        if self._process.poll() is None:
            self.signal(signal.SIGKILL)
            self._process.wait()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It takes connections, by the kernel, and answers nothing."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)


class Proxy:
    """Forwards to ``port`` after ``delay_s``; answers 500 where ``broken``, or to one request in ``every``."""

    def __init__(self, port: int, *, own_port: int = 0) -> None:
        self.delay_s, self.broken, self.every, self.requests = 0.0, False, 0, 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                proxy.requests += 1
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                time.sleep(proxy.delay_s)
                status, content = 500, b'{"error_code": "INTERNAL_ERROR", "message": "broken"}'
                if not (proxy.broken or (proxy.every and proxy.requests % proxy.every == 0)):
                    upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                    headers = {name: value for name, value in self.headers.items() if name != "Host"}
                    upstream.request(self.command, self.path, body, headers)
                    answer = upstream.getresponse()
                    status, content = answer.status, answer.read()
                    upstream.close()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PATCH = do_DELETE = answer

            def log_message(self, *_: Any) -> None:
                pass

        class Listening(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """A client that has gone while its answer was delayed."""

        self._listening = Listening(("127.0.0.1", own_port), Handler)
        self.uri = f"http://127.0.0.1:{self._listening.server_port}"
        Thread(target=self._listening.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown()
        self._listening.server_close()
