"""The engines: what runs a turn of a loop, and what the engines share.

:mod:`.registry` chooses the engine. :mod:`.builtin` is the server's own agent, with its models in
:mod:`.models` and its tools in :mod:`.tools`. :mod:`.claude` and :mod:`.acp` run other agents
inside the sandbox: they share :mod:`.agents`, and reach their model through :mod:`.gateway`.
"""
