"""What a notebook gets: :mod:`.magics`, :mod:`.widgets`, and the :mod:`.output` that stays in it.

All three run in a kernel and reach the server through :mod:`loopat_jupyter.client` alone. This
module imports none of them, so that a kernel loads only what its notebook uses.
"""
