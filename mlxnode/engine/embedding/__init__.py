"""Embedding models: their requests, their batches, their encoders.

May import the kernels.
"""
