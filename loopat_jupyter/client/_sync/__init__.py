"""The synchronous carrier of the core, over ``httpx.Client``."""
