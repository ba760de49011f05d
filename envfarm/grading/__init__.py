"""grade(): submission -> verdict, always in a fresh sandbox."""
