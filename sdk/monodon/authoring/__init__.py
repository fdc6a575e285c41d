"""A component folder becomes a checked recipe and a reproducible bundle; no AWS in it."""
