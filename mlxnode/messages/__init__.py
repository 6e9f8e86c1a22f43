"""The messages between the processes: small typed structs, sent as msgpack.

There are these conversations, each a tagged union:

- ``data``: ``WorkerToEngine`` and ``EngineToWorker``, over one data pipe for each worker and
  engine.
- ``control``: ``SupervisorToChild`` and ``ChildToSupervisor``, over one control pipe for each
  child.
- ``ranks``: between the ranks of an engine on several machines.

The supervisor knows which models cannot be served: it has found some itself, and each child
reports its own with ``Ready``. It sends all of them to the workers as ``FailedModels``.

A worker chooses the ``uid`` of a request. It is unique among the requests of one pipe.

Imports ``config``, ``figures`` and ``models``.
"""
