"""One verb per file; the only place that prints, and the only one that imports task_miner (mine.py)."""
