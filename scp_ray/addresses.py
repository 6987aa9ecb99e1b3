"""Which parts of an address are secrets: of a tracker's, and of a database's."""

from __future__ import annotations

import re

HIDDEN = "***"
SHORTEST = 4  # replacing shorter ones wherever they occur would spell them out
SECRET_NAME = re.compile(r"passw|pwd|token|secret|key|credential|signature|(^|[^a-z])sig", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\w+|\$\{\w+\}")


def secrets_of(address: str) -> list[str]:
    """Its password (a user without one is a token), and of the query what has a name that says so, or none."""
    scheme, user, password, parts = _taken_apart(address)
    values = [value if equals else name for name, equals, value in parts if not equals or SECRET_NAME.search(name)]
    if scheme == "sqlite":
        return values
    return [f"{user}:{password}" if password is not None else user, password if password is not None else user, *values]


def has_password(address: str) -> bool:
    """Whether it spells a password out: after its user, or in its query; $NAME in place of one is none.

    A user alone is none, since databases know users without a password.
    """
    scheme, _, password, parts = _taken_apart(address)
    values = [value for name, _, value in parts if SECRET_NAME.search(name)]
    if scheme.partition("+")[0] != "sqlite" and password is not None:
        values.append(password)
    return any(value and not _VARIABLE.fullmatch(value) for value in values)


def without_secrets(text: str, address: str) -> str:
    """``text``, an error say, with the secrets of an address hidden, the longest first."""
    found = (secret for secret in {*secrets_of(address)} if len(secret) >= SHORTEST)
    for secret in sorted(found, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _taken_apart(address: str) -> tuple[str, str, str | None, list[tuple[str, str, str]]]:
    """Scheme, user, password (None without a colon) and the query's parts as name, "=", value."""
    scheme, _, beyond = address.partition("://")
    user, query = beyond.rpartition("@")[0], beyond.partition("?")[2]  # a password may hold an @ of its own
    name, colon, password = user.partition(":")
    return scheme, name, password if colon else None, [part.partition("=") for part in re.split("[&#]", query)]
