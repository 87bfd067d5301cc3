"""Crashes, fuzzing and a state machine, against real server processes."""
