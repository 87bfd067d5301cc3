"""The client that does I/O: the one source of ``AsyncClient`` and ``Client``.

``_sync`` is generated from this package by ``tools/generate_sync_client.py``; only
``concurrency.py`` is written by hand on both sides.
"""
