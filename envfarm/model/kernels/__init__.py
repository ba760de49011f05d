"""Small C programs for decoding on CPUs: one call for a step through all layers.

`source/` is built for three kinds of machines by `scripts/build_kernels.py`; the libraries are shipped in `libraries/`,
and a test builds them again and compares. Everything else (other devices, other types of numbers, training) is torch's.
"""
