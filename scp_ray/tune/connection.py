"""The Ray that a command runs on: one of its own, or the cluster at an address."""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Any

import ray
from ray._private.services import get_ray_address_from_environment
from ray.exceptions import AuthenticationError

from scp_ray import signals
from scp_ray.errors import ResourceError
from scp_ray.tune.local import guard_token, loopback_only

ANSWER_S = 10.0


@contextmanager
def connected(address: str | None, **options: Any) -> Iterator[None]:
    """A Ray of our own unless an address is given: ``ray.init()`` alone would join one that happens to run."""
    guard_token(create=not address)
    with redirect_stdout(sys.stderr):  # Ray tells of lost workers there, where --json's one object belongs
        _start(address, options)
        if threading.current_thread() is threading.main_thread():
            signals.take_back()  # Ray has put handlers of its own in their place
        # what Tune has to say of failed trials is said by us, with the reason and what to do
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            ray.shutdown()


def _start(address: str | None, options: dict[str, Any]) -> None:
    try:
        _check_answers(address)
        with nullcontext() if address else loopback_only():
            ray.init(
                address=address or "local",
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **options,
            )
    except AuthenticationError as error:
        raise ResourceError(
            f"the Ray cluster at {address!r} refuses this machine's token, or there is none. Bring the cluster's "
            "(ray get-auth-token on its head) to ~/.ray/auth_token, mode 0600, or set RAY_AUTH_TOKEN."
        ) from error
    except (RuntimeError, ValueError) as error:  # another version of Ray or Python, or no address at all
        where = f"joined at {address!r}" if address else "started"
        raise ResourceError(
            f"Ray cannot be {where}: {error} Use the versions of Ray and Python that the cluster has, and host:port or "
            "auto as the address."
        ) from error
    except ConnectionError as error:
        raise ResourceError(
            f"no Ray cluster answers at {address!r}: {error}. Start one (ray start --head), name the address it "
            "prints, or leave --address out for a local Ray."
        ) from error


def _check_answers(address: str | None) -> None:
    """Raises ConnectionError where nothing listens: ray.init alone tries for more than ten minutes.

    "auto" is what RAY_ADDRESS names, else a Ray of this machine, else the last one that ``ray start`` has started here,
    whose address stays in a file when it has died.
    """
    there = get_ray_address_from_environment("auto", None) if address == "auto" else address
    host, _, port = (there or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # none, or not host:port, which ray.init refuses
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except OSError as error:
        raise ConnectionError(f"{there}: {error}" if address == "auto" else str(error)) from error
