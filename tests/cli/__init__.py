"""The command line: as a program (no terminal), and at a real terminal."""
