"""Every error a user can meet, under one root. The text says what came, what is allowed and what to do.

ScpError
├── ConfigError         the request is wrong; all its faults at once       exit code 2
│   └── UnknownNameError    a plug-in, field or space that does not exist
├── DataError           a table or an image is missing or wrong            exit code 2
├── BackboneError       weights cannot be had, a layer cannot be pruned    exit code 2
├── ScoreError          no batch can tell the groups apart
├── DivergedError       a loss became NaN or infinite
├── ResourceError       the machine or cluster cannot run it               exit code 3
│   └── BatchTooLargeError  a training batch that memory does not take
├── LedgerError         the record on disk cannot be read or written       exit code 2
│   └── StoreError          an object store refuses, or does not answer
├── TrackingError       the tracker did not take what it was told          exit code 3
└── SweepHeldError      another driver holds the sweep                     exit code 4
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class ScpError(Exception):
    """Root of all errors raised on purpose."""

    exit_code = 1


class ConfigError(ScpError):
    """One or more faults of a request, each a full sentence."""

    exit_code = 2

    def __init__(self, faults: str | Sequence[str]) -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        super().__init__("\n".join(self.faults))


class UnknownNameError(ConfigError):
    """A name that nothing answers to."""

    def __init__(self, kind: str, came: object, known: Iterable[str]) -> None:
        known = list(known)  # in the caller's order: layers have one of their own
        near = difflib.get_close_matches(str(came), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"{kind} {came!r} not found.{hint} Known: {', '.join(known)}.")


class DataError(ScpError):
    """A table or an image that cannot be used."""

    exit_code = 2


class BackboneError(ScpError):
    """Weights that cannot be had, or a layer that cannot be pruned."""

    exit_code = 2


class ScoreError(ScpError):
    """Scores that are not defined on the given samples."""


class DivergedError(ScpError):
    """A loss that is no longer a finite number."""


class ResourceError(ScpError):
    """A request that the machine or cluster cannot hold."""

    exit_code = 3


class BatchTooLargeError(ResourceError):
    """A training batch that memory does not take; ``can_be_cut``: it may be tried in micro-batches."""

    def __init__(self, text: str, *, can_be_cut: bool = False) -> None:
        super().__init__(text)
        self.can_be_cut = can_be_cut


class LedgerError(ScpError):
    """A record on disk that cannot be read or written."""

    exit_code = 2


class StoreError(LedgerError, OSError):
    """An object store that refuses, or has not answered for long. An OSError too, as a disk's refusal is."""


class TrackingError(ScpError):
    """A tracker that did not take what it was told."""

    exit_code = 3


class SweepHeldError(ScpError):
    """A sweep that another driver holds."""

    exit_code = 4
