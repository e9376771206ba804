"""Blocks on the workers of a Dask cluster: where workers come from, what is sent to them, what comes back."""
