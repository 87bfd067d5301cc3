"""The tools of the engine ``builtin``: their inputs, what they do in the sandbox, their outcome."""
