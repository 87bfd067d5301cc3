"""The same package behind a real JupyterHub and its proxy."""
