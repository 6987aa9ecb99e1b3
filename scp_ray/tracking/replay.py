"""MLflow filled from a ledger, whatever it has been told before."""

from __future__ import annotations

import time
from collections import deque

from scp_ray.errors import ScpError, TrackingError
from scp_ray.ledger import Sweep
from scp_ray.tracking.artifacts import Attached
from scp_ray.tracking.background import Tracker
from scp_ray.tracking.content import job_ids, recorded
from scp_ray.tracking.copied import stand_in, with_copies
from scp_ray.tracking.mlflow import MLflowRuns
from scp_ray.tracking.secrets import redacted, shown

ATTEMPTS = 4


def _what(waiting: int) -> str:
    return "the ledger" if waiting else "the report's files and models (all rounds of the ledger are there)"


def replay(sweep: Sweep, uri: str, attached: Attached | None = None) -> int:
    """Bring every run to what the ledger holds, the parent run to what is ``attached``; returns the number of rows.

    Raises TrackingError where MLflow does not take it. What it has taken by then stays.
    """
    failures = sweep.ledger.failures()
    bases = [str(base_id) for base_id in sweep.bases["base_id"]] if len(sweep.bases) else []
    trials = [str(trial_id) for trial_id in sweep.rounds["trial_id"].unique()] if len(sweep.rounds) else []
    waiting = deque(dict.fromkeys([*bases, *job_ids(sweep.definition), *trials, *failures]))
    runs: Tracker | None = None
    tracker = MLflowRuns(uri, sweep.ledger.root)
    database = stand_in(uri, sweep.ledger)
    count, attempts = 0, ATTEMPTS - 1  # who does not answer at first is not asked again
    while True:
        try:
            if runs is None:
                tracker = MLflowRuns(uri, sweep.ledger.root)
                runs = with_copies(tracker, database)
                runs.open(sweep.definition, running=False)
            if not waiting:
                if attached is not None:
                    tracker.attach(attached)
                runs.close()
                return count
            rows = recorded(sweep.ledger, waiting[0])
            runs.show(waiting[0], rows, failures.get(waiting[0]), running=False)
        except ScpError:
            raise
        except Exception as error:  # of MLflow, of a database, of the network: any of them may name the address
            runs, attempts = None, attempts + 1
            if attempts == ATTEMPTS:
                raise TrackingError(
                    f"{redacted(uri)} did not take {_what(len(waiting))}: {shown(error)}. What it took stays; try "
                    "again when it answers."
                ) from None
            time.sleep(2**attempts)
        else:
            attempts = 0
            count += len(rows)
            waiting.popleft()
