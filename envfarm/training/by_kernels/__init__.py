"""A training step on a CPU through kernels of our own: the maths of `training/losses.py`, in fewer and larger pieces.

Products with weights stay torch's; what lies between them is one call into C for each piece, forward and backward.
"""
