"""Prints the embedded texts per CPU-second of sentence-transformers, called with full batches.

    PYTHON benchmarks/embedding_peer.py FOLDER < texts

``serving.py --sentence-transformers PYTHON`` runs this file. Standard input has one text in
each line.
"""

import sys
import time

import torch
from sentence_transformers import SentenceTransformer

torch.set_num_threads(1)  # more threads wait for each other, and waiting counts as CPU time
model = SentenceTransformer(sys.argv[1], device="cpu")
texts = sys.stdin.read().splitlines()
model.encode(texts[:32], batch_size=32)  # warm up
started = time.process_time()
model.encode(texts, batch_size=32)
print(len(texts) / (time.process_time() - started))
