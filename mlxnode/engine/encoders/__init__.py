"""Embedding models: text encoders written in MLX, one architecture family a file."""
