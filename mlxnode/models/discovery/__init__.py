"""Models that are on the disk and in no table of the configuration: found, typed, named.

May import ``config``, ``errors`` and the other files of ``models``; never mlx. No weights are
read, and nothing is written but the folder that every GGUF file gets once.
"""
