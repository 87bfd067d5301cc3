"""The blocking client, generated from ``_async`` by ``tools/generate_sync_client.py``.

Only ``concurrency.py`` and this file are written by hand.
"""
