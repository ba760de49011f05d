"""Small C programs for CPUs: a step of decoding through all layers in one call, and the pieces of a training step.

`source/` is built for three kinds of machines by `scripts/build_kernels.py`; the libraries are shipped in `libraries/`,
and a test builds them again and compares. Everything else (other devices, other types of numbers) is torch's, and so
are the products with weights in training.
"""
