"""Speed and memory of the server, measured from outside: ``python -m benchmarks``.

Nothing of this is imported by the package. See ``benchmarks/README.md``.
"""
