"""Texts per CPU-second of sentence-transformers, called with full batches.

    PYTHON -P benchmarks/embedding_peer.py FOLDER < texts

Run by ``serving.py --sentence-transformers PYTHON``. Texts come one a line.
"""

import sys
import time

import torch
from sentence_transformers import SentenceTransformer

torch.set_num_threads(1)  # more only wait for each other, which counts as CPU time
model = SentenceTransformer(sys.argv[1], device="cpu")
texts = sys.stdin.read().splitlines()
model.encode(texts[:32], batch_size=32)
started = time.process_time()
model.encode(texts, batch_size=32)
print(len(texts) / (time.process_time() - started))
