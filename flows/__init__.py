"""How it runs: the command line, the Prefect flow, and Dask."""
