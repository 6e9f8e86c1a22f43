"""Text generation: requests, scheduler, batch, prefill, sampling, grammars, drafts.

May import ``kvcache``, ``cpu`` and the kernels.
"""
