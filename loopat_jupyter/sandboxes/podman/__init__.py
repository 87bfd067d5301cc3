"""The tier ``podman``: a container for each loop, made by the podman command.

Runs in the server.
"""
