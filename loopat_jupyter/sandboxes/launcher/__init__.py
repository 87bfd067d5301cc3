"""The launcher process that starts sandboxes, and the server's client of it.

:mod:`.process`, :mod:`.idmap`, :mod:`.reachable_mounts` and
:mod:`loopat_jupyter.sandboxes.landlock.monitor` run in the launcher and its children. The launcher
runs as a script without the package, so that it is small and starts fast: these modules import only
the standard library and each other, by their full names. :mod:`.client`, :mod:`.ownership` and
:mod:`.safe_open` run in the server.
"""
