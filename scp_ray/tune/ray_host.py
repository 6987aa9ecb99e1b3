"""The process of a Ray of our own (``own_ray``): it starts Ray, says where it is, and ends it with its driver."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from contextlib import suppress
from typing import Any

import ray

from scp_ray import signals
from scp_ray.errors import ResourceError
from scp_ray.tune.local import guard_token, loopback_only


def host(options: dict[str, Any]) -> None:
    """Answer with a line on stdout, {"address": ...} or {"error": ...}; then wait for the end of stdin."""
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")  # which no process of Ray's inherits: its end is ours
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    up, ended = threading.Event(), threading.Event()
    threading.Thread(target=_watch, args=(up, ended), daemon=True).start()
    try:
        told = {"address": _start(options)}
    except (ResourceError, RuntimeError, ValueError, OSError) as error:
        told = {"error": str(error) if isinstance(error, ResourceError) else f"Ray cannot be started: {error}"}
    up.set()
    with suppress(BrokenPipeError), answer:  # the driver has died since
        answer.write(json.dumps(told) + "\n")
    if "address" in told:
        ended.wait()
        ray.shutdown()


def _start(options: dict[str, Any]) -> str:
    guard_token(create=True)
    with loopback_only():
        context = ray.init(
            address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **options
        )
    address: str = context.address_info["gcs_address"]
    return address


def _watch(up: threading.Event, ended: threading.Event) -> None:
    """The driver is through, has refused the request, or is dead: a Ray that is still starting is killed."""
    while os.read(sys.stdin.fileno(), 1):  # no word is ever said on it
        pass
    ended.set()
    if not up.is_set():
        signals.end_now(0)
