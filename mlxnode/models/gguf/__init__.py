"""GGUF files: the folder that stands in for one, with its configuration and its tokenizer."""
