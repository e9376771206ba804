"""How it runs: the command line, the Prefect flow, and Dask."""

import os

# Libraries that call home do not, unless the user says so: Prefect's server and client, Hugging Face's hub.
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
