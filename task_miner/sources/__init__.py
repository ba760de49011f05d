"""From what a user names as --repo to a bare repository of ours in the cache; the user's own is only read."""

from task_miner.sources.source import Source, open_source

__all__ = ["Source", "open_source"]
