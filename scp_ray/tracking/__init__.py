"""Floor 4: trackers. A tracker is a Sink, told live or replayed from the ledger."""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
