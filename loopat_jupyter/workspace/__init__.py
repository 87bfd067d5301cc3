"""The files in loops' workdirs, read and written by the server on the host."""
