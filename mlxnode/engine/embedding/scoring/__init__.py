"""Rerankers: what makes a score of the hidden states of a query and a document."""
