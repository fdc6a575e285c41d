"""Seeing on a device."""
