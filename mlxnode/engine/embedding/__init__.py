"""Embedding models: their requests, their batches, their encoders.

May import ``cpu``, what the rooms of the engine share, and the kernels.
"""
