"""What runs inside a sandbox: the supervisor, and the modules that it loads for its jobs.

The modules run without this package (:mod:`.bundle`, which alone runs in the server, passes them
in), and in an image's Python from 3.9 on. A sandbox is ready in milliseconds, of which imports are
the greatest part, so they import only the standard library, and of that not what is slow to import:
``typing``, ``signal`` (``_signal`` instead), ``socket`` (``_socket``), and where an operation alone
needs it (``re``, ``json``, ``ctypes``) not before that operation.
"""
