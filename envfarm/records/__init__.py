"""Shared vocabulary: frozen, versioned records and their JSON lines. PURE: no I/O, no clock, no randomness."""
