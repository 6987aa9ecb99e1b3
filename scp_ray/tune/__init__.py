"""Floor 4: trials on Ray Tune. Ray is imported by the files that need it, not here."""

import os

# Ray reads these when it is imported: no usage reports, no files of Tune's own loggers, no second progress table,
# and workers stay in the directory they were started from. Of a searcher's trials Tune starts one after the other
# unless told how many may be on their way: 512 workers would start one by one, and an autoscaler see one request.
for _name, _value in {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "200",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}.items():
    os.environ.setdefault(_name, _value)
