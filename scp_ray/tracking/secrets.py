"""What may be shown of a tracker's address, and of the errors in which it turns up."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from urllib.parse import quote, unquote

from scp_ray.addresses import HIDDEN, SHORTEST, secrets_of

_ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
_CREDENTIALS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
# up to the last @ before a blank or a quotation mark: a password may hold an @ or a / of its own
# (of SQLite all is a path)
_USER = re.compile(r"(?<=://)(?<!sqlite://)[^\s'\"]*@")


def redacted(text: str) -> str:
    """``text`` without the passwords and tokens of MLflow's environment variables, and without any address's user."""
    hide = [False] * len(text)
    for secret in set(_known()):  # they overlap: of user:a?b@host both user:a?b and b@host may be one
        for found in re.finditer(f"(?={re.escape(secret)})", text):
            hide[found.start() : found.start() + len(secret)] = [True] * len(secret)
    shown = "".join(
        HIDDEN if hidden else "".join(character for character, _ in group)
        for hidden, group in groupby(zip(text, hide, strict=True), key=itemgetter(1))
    )
    return _USER.sub(f"{HIDDEN}@", shown)


def shown(error: BaseException) -> str:
    """An error in one line that anybody may read."""
    return redacted(f"{type(error).__name__}: {' '.join(str(error).split())}")[:400]


def _known() -> Iterator[str]:
    secrets = [os.environ.get(name, "") for name in _CREDENTIALS]
    for address in (os.environ.get(name, "") for name in _ADDRESSES):
        secrets += secrets_of(address)
    for secret in secrets:
        plain = unquote(secret)
        for form in (secret, plain, quote(plain), quote(plain, safe="")):
            for written in (form, repr(form)[1:-1]):  # an error may show it as Python would
                if len(written) >= SHORTEST:
                    yield written
