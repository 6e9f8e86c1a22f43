"""Reads the notation of a model off its chat template, and proves it.

May import ``notation``, ``parsing`` and ``rendering``.
"""
