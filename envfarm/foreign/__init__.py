"""Tasks of other people, run as their formats say: Harbor tasks and SWE-bench task repositories."""
