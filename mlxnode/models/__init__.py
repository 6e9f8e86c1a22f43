"""What is served: models found, fetched and described, without loading their weights.

May import the standard library, numpy, tokenizers, gguf and huggingface_hub; never mlx, so
that the supervisor and the workers can use it.
"""
