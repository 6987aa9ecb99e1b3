"""The process of a Ray of our own (``own_ray``): it starts Ray, says where it is, and ends it with its driver."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any

from scp_ray import signals
from scp_ray.errors import ResourceError

END_S = 10.0  # Ray takes two seconds; of a driver that was killed nothing may stay for longer


def host(answer: int, options: dict[str, Any]) -> None:
    """Write a line to ``answer``, {"address": ...} or {"error": ...}; then wait for the end of stdin."""
    os.set_inheritable(answer, False)  # no process of Ray's keeps it open: its end is ours
    over = threading.Event()
    threading.Thread(target=_watch, args=(over,), daemon=True).start()
    told = _start(options)
    for number in signals.SIGNALS:  # from now on, so that Ray's processes do not inherit it: the driver ends this one
        signal.signal(number, signal.SIG_IGN)
    with suppress(BrokenPipeError), os.fdopen(answer, "w") as line:  # the driver has died since
        line.write(json.dumps(told) + "\n")
    if "address" in told:
        over.wait()
        _end()


def _start(options: dict[str, Any]) -> dict[str, str]:
    import ray  # takes a while, in which the driver may already be through
    from ray.exceptions import AuthenticationError

    from scp_ray.tune.local import guard_token, loopback_only

    try:
        guard_token(create=True)
        with loopback_only():
            context = ray.init(
                address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **options
            )
    except ResourceError as error:
        return {"error": str(error)}
    except (AuthenticationError, RuntimeError, ValueError, OSError) as error:
        return {"error": f"Ray cannot be started: {error}"}
    return {"address": context.address_info["gcs_address"]}


def _end() -> None:
    import ray

    late = threading.Timer(END_S, signals.end_now, (0,))
    late.daemon = True
    late.start()
    ray.shutdown()


def _watch(over: threading.Event) -> None:
    """Until the driver is through, has refused the request, or is dead: a Ray that it has not used is killed."""
    used = os.read(sys.stdin.fileno(), 16)
    while used and os.read(sys.stdin.fileno(), 16):
        pass
    if not used:
        signals.end_now(0)
    over.set()
