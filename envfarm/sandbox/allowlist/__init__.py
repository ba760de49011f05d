"""The one way out of a box without a network: a proxy of this machine that knows host names and nothing else."""
