"""Embedding models: their requests, their batches, their encoders.

May import ``cpu`` and the kernels.
"""
