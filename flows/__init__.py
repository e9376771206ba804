"""How it runs: the command line, on Dask, under Prefect, and what is new by the ledger."""

import os

# Libraries that call home do not, unless the user says so: Prefect's server and client, Hugging Face's hub.
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

PREFECT_SETTINGS = {
    "PREFECT_LOGGING_EXTRA_LOGGERS": "segflow,pipelines,flows",  # our lines go to the server
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # to log outside of a run is nobody's error
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # a run says so often that it is alive
}
"""Prefect reads them when it is imported: here before that, and a worker before it starts a run."""
for _name, _value in PREFECT_SETTINGS.items():
    os.environ.setdefault(_name, _value)
