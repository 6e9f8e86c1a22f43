"""What Prometheus reads at ``/metrics``: what the workers count, and the figures of the node.

The families are declared in ``families.py``. A worker counts in ``counts.py``; a helper process
renders what all workers have counted. Imports no room of the server.
"""
