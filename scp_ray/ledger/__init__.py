"""Floor 3: a sweep's own record on disk. Everything that is ever shown to a person is read from here."""

from scp_ray.ledger.ledger import Ledger
from scp_ray.ledger.load import Sweep, load_sweep
from scp_ray.ledger.sink import Sink

__all__ = ["Ledger", "Sink", "Sweep", "load_sweep"]
