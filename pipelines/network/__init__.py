"""The run's network: which backend and tiling it comes to, and what is remembered of that."""
