"""The HTTP API: authenticate, validate, call the domain, encode the response.

One file for each resource (``loops``, ``messages``, ``events``, …), beside what they share. The
API is described in ``openapi.yaml``.
"""
