"""envfarm mines software tasks from repositories, runs agents on them in sandboxes and returns rewards.

This package imports nothing heavy and has no side effects; see docs/architecture.md for the rooms.
"""
