"""The API contract, rule by rule, against a real server process; one file for each section."""
