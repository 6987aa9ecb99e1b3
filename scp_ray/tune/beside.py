"""Ray beside the main thread, so that a signal finds the main thread free, and our handlers in place.

ray.init and Tune put Python handlers of their own in place, but only on the main thread. Ray's core puts one for
SIGTERM, which aborts the process, from any thread and unseen: ours are put back again and again. One thread does all
that needs Ray.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from scp_ray import signals

T = TypeVar("T")
RETAKE_S = 0.01


def begin(work: Callable[[], T]) -> tuple[threading.Thread, Future[T]]:
    """Start ``work`` in a thread of its own, which does not keep the process from ending."""
    ended: Future[T] = Future()

    def run() -> None:
        try:
            ended.set_result(work())
        except BaseException as error:
            ended.set_exception(error)

    thread = threading.Thread(target=run, name="scp_ray beside", daemon=True)
    thread.start()
    return thread, ended


def keep_signals(until: Callable[[], bool]) -> None:
    """Put our handlers back until it holds. On the main thread; raises KeyboardInterrupt on a signal."""
    while not until():
        if signals.received():  # before, within a library that has caught what it raised
            raise signals.Stopped
        signals.take_back()
        time.sleep(RETAKE_S)
    signals.take_back()


def beside_main_thread(work: Callable[[], T]) -> T:
    """What ``work`` gives or raises.

    Raises KeyboardInterrupt on a signal, at once: the work is left where it is, and ends with the process.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    stdout = sys.stdout
    _, ended = begin(work)
    try:
        keep_signals(ended.done)
    except BaseException:
        sys.stdout = stdout  # the work may have led it elsewhere
        raise
    return ended.result()
