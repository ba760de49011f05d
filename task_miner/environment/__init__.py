"""From a project's own files to a pinned environment: facts, ladder, lock, build."""
