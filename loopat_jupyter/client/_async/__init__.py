"""The asyncio carrier of the core, over ``httpx.AsyncClient``."""
