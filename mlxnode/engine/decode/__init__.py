"""Text generation: requests, scheduler, batch, prefill, sampling, grammars, drafts.

May import ``kvcache``, what the rooms of the engine share, and the kernels.
"""
