"""The tests mirror the package; contract/ and e2e/ drive a real server from outside."""
