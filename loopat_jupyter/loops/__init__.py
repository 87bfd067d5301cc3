"""The domain: loops, their turns, choices, permissions and events.

It imports nothing of the other packages. What it needs of them is in :mod:`.ports`, as protocols
that engines, sandboxes, the store, the context and the workspace implement.
"""
