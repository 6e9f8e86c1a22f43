"""Throughput and latency of servers over HTTP, beside each other in one run.

`mlxnode bench` measures servers as they are; benchmarks/serving.py, which uses the requests and
the prompts, has loads of its own. Imports client, doctor, engine.cpu, errors and process.
"""
