"""Thousands of core devices in one process, each with the real jobs and health topics, and with faults of its own.

``device`` decides what a device says; ``fleet`` puts devices on sockets, ``virtual`` on a clock that nobody waits for.
"""
