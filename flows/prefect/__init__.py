"""Runs as Prefect flow runs: flows and their tasks, deployments, what a server needs and what its page shows."""
