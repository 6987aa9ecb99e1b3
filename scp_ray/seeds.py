"""One random stream per purpose, derived from one seed."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed in [0, 2**63) for one purpose, e.g. ``derive_seed(0, "scoring")``.

    Hashing keeps the streams apart: adding a purpose never moves another one.
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
