"""How often test numbers were shown: counted in sweep.json before they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scp_ray.ledger.files import write_json
from scp_ray.ledger.lease import lease_on

if TYPE_CHECKING:
    from scp_ray.ledger.ledger import Ledger


def count_reveal(ledger: Ledger) -> int:
    """One more; returns the count with this one.

    sweep.json is the driver's: the lease is held while it is written. Raises SweepHeldError where a driver is at work
    (test numbers are for sweeps that are over), LedgerError where it cannot be written: then nothing may be shown.
    """
    with lease_on(ledger.driver):
        definition = ledger.definition()
        count = int(definition.get("test_reveals", 0)) + 1
        write_json(ledger.definition_path, definition | {"test_reveals": count})
    return count
