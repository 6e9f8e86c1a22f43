"""What is served: models found, fetched and described, without loading their weights.

Never imports mlx, so that the supervisor and the workers can use it; what is heavy
(huggingface_hub, gguf, transformers) is imported where it is needed.
"""
