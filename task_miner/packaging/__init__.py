"""Assembles a task folder's bytes: workspace and reference archives, patches, Dockerfile, scripts.

Every byte follows from the repository and the environment alone: not from the time, the machine, or the versions of
git, zlib and tar that it happens to have.
"""
