"""Floor 4: trackers. The ledger is written first; a tracker is brought to what it says, live or afterwards."""

import os

# Read by MLflow at every request; what the user has set stays. A request that got no answer may have been carried out:
# sent again it would make a second run, so it is not repeated blindly: what is there is looked up first.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}.items():
    os.environ.setdefault(_name, _value)
# MLflow would print the address of each run that ends, its user and password with it, where --json has one object
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
