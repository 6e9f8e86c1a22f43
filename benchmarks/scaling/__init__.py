"""A model of nodes on paper: what they cost, a simulator that plays traces, and its validation.

The simulator is plain Python on discrete events. It has the pacing of the engine itself
(``mlxnode.engine.pacing``), and follows its scheduler, its steps and its prefix cache. No file
here imports mlx or starts a node.
"""
