"""What all sandbox tiers have in common: settings, mounts, limits, the control channel, and the
sandbox itself. Runs in the server.
"""
