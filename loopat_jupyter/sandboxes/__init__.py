"""Sandboxes for loops: the tiers, from the strongest to ``none``, and what they are made of.

``registry`` selects the tier. ``runtime``, ``proxy`` and the packages named after tiers run in the
server, ``launcher`` is a process beside it, and ``inside`` runs in the sandbox.
"""
