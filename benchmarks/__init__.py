"""How fast, and in how much memory: `python -m benchmarks` measures a run, its peers and its start-up in turns."""
