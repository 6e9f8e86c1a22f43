"""Embedding models: their requests, their batches, their encoders.

May import ``cpu``, ``loader``, what the rooms of the engine share, and the kernels.
"""
