"""The ports of the domain: protocols, and the plain values that go through them.

A module is a port: :mod:`.engine`, :mod:`.sandbox`, :mod:`.store`, :mod:`.files`, :mod:`.network`.
"""
