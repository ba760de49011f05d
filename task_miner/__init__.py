"""mine(): a repository's history becomes validated tasks."""
