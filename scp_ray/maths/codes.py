"""Codes as callers give them: whole numbers, checked once before anything is counted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scp_ray.errors import ScpError

_WHAT = {
    "label": "classes 0..K-1. Number the classes first",
    "prediction": "classes 0..K-1. Of probabilities take the class first: argmax, or p >= 0.5 of two classes",
    "group": "0 and 1. Number the groups first, e.g. [int(s == 'm') for s in sex]",
}


def whole_codes(values: Any, name: str) -> NDArray[np.int64]:
    """Codes of any shape as int64; ``name`` is label, prediction or group, and begins the message.

    Whole numbers of any type are taken (bool, and floats such as 1.0). Raises ScpError for others: 0.9 would be
    cut to class 0.
    """
    try:
        codes = np.asarray(values)
        if codes.dtype == object:  # of tables with whole numbers that may be missing
            codes = np.asarray(codes.tolist())
    except (TypeError, ValueError, RuntimeError) as error:  # ragged, on a GPU, with a gradient
        raise ScpError(f"{name}: {error}. Allowed are codes as an array or a tensor on the CPU.") from error
    kind = codes.dtype.kind
    if kind in "iub":
        return codes.astype(np.int64, copy=False)
    if kind == "f":
        wrong = codes != np.trunc(codes)  # NaN differs from itself
        wrong |= np.isinf(codes)
        if not wrong.any():
            return codes.astype(np.int64)
        first = codes[wrong][0]
        came = f"{first:g} ({int(wrong.sum())} of {codes.size} are no whole numbers)"
    else:
        came = repr(next((each for each in codes.ravel().tolist() if not isinstance(each, int | float)), "nothing"))
    raise ScpError(f"{name}: got {came}; allowed are codes, {_WHAT[name]}.")
