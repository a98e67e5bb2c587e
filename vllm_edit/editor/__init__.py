"""The process that holds an autograd copy of the model and computes weight deltas.

The server imports `client` and `messages` only; neither imports PyTorch.
"""
