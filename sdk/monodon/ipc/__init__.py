"""AWS event-stream RPC, the nucleus's end of it."""
