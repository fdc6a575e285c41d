"""A component folder becomes a checked recipe and a reproducible bundle; no AWS in it.

A recipe.py is written with what ``monodon.authoring.recipes`` has.
"""
