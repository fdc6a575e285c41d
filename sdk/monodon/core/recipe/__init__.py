"""Recipes of format 2020-01-25: the model, reading, writing, and what a platform selects."""
