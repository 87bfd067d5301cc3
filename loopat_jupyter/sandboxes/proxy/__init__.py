"""The broker: a sandbox's one way out of its empty network. It runs in the server.

Its listening socket lies on the sandbox's own loopback: where the sandbox has a network namespace
the supervisor makes it inside and hands it out, so that no process inside has to forward anything
and nothing of the host is bound in. What comes in is an HTTP proxy's traffic, and a model
provider's API under ``/model``; nothing that is read here is trusted.
"""
