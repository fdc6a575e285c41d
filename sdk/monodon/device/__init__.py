"""A tool's view of a running nucleus: call its operations, watch, record and replay its topics."""
