"""Models behind an API: everything that imports pydantic-ai and the providers' SDKs.

Those imports take seconds, so nothing outside imports these modules at its top:
:mod:`loopat_jupyter.engines.providers` does when a turn first needs one, off the event loop.
"""
