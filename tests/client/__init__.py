"""The client: over a transport seam without network, and against a real server."""
