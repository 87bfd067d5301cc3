"""The egress proxy of a sandbox, through which alone it reaches the network. Runs in the server.

It listens on the sandbox's own loopback interface: where the sandbox has a network namespace, the
supervisor opens the socket inside and sends it to the server, so that no process inside has to
forward anything and nothing of the host is mounted. It serves HTTP proxy requests, and the model
gateway under ``/model``. Nothing that it reads is trusted.
"""
