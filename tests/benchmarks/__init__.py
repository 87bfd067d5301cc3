"""Tests of ``benchmarks``: that it runs and reports. No time is asserted."""
