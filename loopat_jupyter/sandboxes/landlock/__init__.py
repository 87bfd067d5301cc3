"""The tier ``landlock``, for hosts without user namespaces. :mod:`.monitor` and
:mod:`.syscall_handler` run in a child of the launcher (see ``launcher/__init__.py`` for what they
may import), all other modules in the server.
"""
