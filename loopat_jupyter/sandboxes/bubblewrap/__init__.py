"""The tier ``bubblewrap``: user namespaces through the program ``bwrap``. Runs in the server."""
