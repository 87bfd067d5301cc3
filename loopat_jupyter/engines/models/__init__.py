"""The models of the engine ``builtin``: the port, the demo model, and those behind an API.

Messages and journal entries are in :mod:`.messages`, the port in :mod:`.port`, the pool that opens
models in :mod:`.pool`. :mod:`.demo` is the offline model; every other one is a :mod:`.remote`
model, whose wire formats are :mod:`.anthropic` and :mod:`.openai`.
"""
