"""How often test numbers of a sweep were shown: each look at them is counted in sweep.json."""

from __future__ import annotations

from scp_ray.ledger.files import write_json
from scp_ray.ledger.lease import lease_on
from scp_ray.ledger.ledger import Ledger


def count_reveal(ledger: Ledger) -> int:
    """Count one more look at test numbers, before they are made; returns how many there have been with it.

    Held like a driver, since that writes sweep.json too. Raises SweepHeldError while the sweep runs: what still chooses
    is not to be looked at.
    """
    with lease_on(ledger.driver):
        definition = ledger.definition()
        reveals = int(definition.get("test_reveals", 0)) + 1
        write_json(ledger.definition_path, definition | {"test_reveals": reveals})
    return reveals
