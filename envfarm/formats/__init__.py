"""Reads and writes other people's formats: Harbor task folders and SWE-bench rows."""
