"""Stands before the package of this name, in the servers that tests start and in pytest itself.

jupyter_server and jupyterhub import jsonschema, which imports rfc3987_syntax where it is installed;
that package builds a parser at import, which is 0.7 s of the 1.2 s a Jupyter server takes to start.
Without it jsonschema leaves the formats ``iri`` and ``iri-reference`` unchecked. No schema of
Jupyter or of this package has them.
"""

raise ImportError("left out in tests: it takes 0.7 s to import")
