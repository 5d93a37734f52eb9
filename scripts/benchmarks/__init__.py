"""What `scripts/bench.py` measures, each figure in a process of its own."""
