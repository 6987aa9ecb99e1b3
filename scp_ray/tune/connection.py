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
from ray._private.authentication.authentication_token_setup import enable_token_auth_by_default
from ray._private.services import get_ray_address_from_environment
from ray.exceptions import AuthenticationError

from scp_ray import signals
from scp_ray.errors import ResourceError
from scp_ray.tune.local import guard_token, loopback_only
from scp_ray.tune.own_ray import OwnRay

ANSWER_S = 10.0


@contextmanager
def connected(place: str | OwnRay | None, **options: Any) -> Iterator[None]:
    """On the cluster at an address, or on a Ray of our own, which ends with the block.

    ``ray.init()`` alone would join one that happens to run.

    Args:
        place: an address, or a Ray of our own that is on its way; without either one is started.
        options: of ``ray.init``, for a Ray of our own that is started here.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    own = nullcontext(place) if isinstance(place, str) else place or OwnRay(**options)
    # Ray tells of lost workers on stdout, where --json's one object belongs
    with redirect_stdout(sys.stderr), own as there:
        if isinstance(there, str):
            _join(there)
        else:
            _join_own(there)
        if threading.current_thread() is threading.main_thread():
            signals.take_back()  # Ray has put handlers of its own in their place
        # what Tune has to say of failed trials is said by us, with the reason and what to do
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            ray.shutdown()


def _join_own(own: OwnRay) -> None:
    address = own.address()
    try:
        _check_answers(address)
        enable_token_auth_by_default()  # as in the process that has started it
        with loopback_only():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (AuthenticationError, RuntimeError, ConnectionError) as error:  # it has died since, say
        raise ResourceError(
            f"the Ray that was started here at {address} cannot be joined: {error}. Run the same command again."
        ) from error


def _join(address: str) -> None:
    guard_token(create=False)
    try:
        _check_answers(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except AuthenticationError as error:
        raise ResourceError(
            f"the Ray cluster at {address!r} refuses this machine's token, or there is none. Bring the cluster's "
            "(ray get-auth-token on its head) to ~/.ray/auth_token, mode 0600, or set RAY_AUTH_TOKEN."
        ) from error
    except (RuntimeError, ValueError) as error:  # another version of Ray or Python, or no address at all
        raise ResourceError(
            f"Ray cannot be joined at {address!r}: {error} Use the versions of Ray and Python that the cluster has, "
            "and host:port or auto as the address."
        ) from error
    except ConnectionError as error:
        raise ResourceError(
            f"no Ray cluster answers at {address!r}: {error}. Start one (ray start --head), name the address it "
            "prints, or leave --address out for a local Ray."
        ) from error


def _check_answers(address: str) -> None:
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
