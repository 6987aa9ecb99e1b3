"""Whether a tracker answers; of its address no secret is told."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException

from scp_ray.tracking.secrets import redacted

ANSWER_S = 5


def trouble_with(uri: str) -> str:
    """Why the tracker cannot be told anything, in a sentence; empty where it answers or nothing can be checked."""
    shown = redacted(uri)
    try:
        parts = urlsplit(uri)
    except ValueError:  # what it says repeats the password
        return (
            f"the tracker's address {shown} cannot be read. In a user or password write / as %2F, # as %23, ? as %3F, "
            "[ as %5B and ] as %5D."
        )
    if parts.scheme == "sqlite":
        folder = Path(parts.path.removeprefix("/")).parent
        return "" if folder.is_dir() else f"{shown}: there is no folder {folder}. Make it."
    if parts.scheme not in ("http", "https"):
        return ""
    # MLflow's own patience is minutes
    MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(0)
    MLFLOW_HTTP_REQUEST_TIMEOUT.set(ANSWER_S)
    try:
        MlflowClient(uri).search_experiments(max_results=1)
    except MlflowException as error:
        code = re.search(r"error code (\d{3})", str(error))  # of the rest nothing is told: it repeats the address
        answer = f"answers {code[1]}" if code else "does not answer"
        return (
            f"the tracker at {shown} {answer}. Start it, or set MLFLOW_TRACKING_URI; a sweep runs without it, and "
            "scp-ray track fills it afterwards."
        )
    return ""
