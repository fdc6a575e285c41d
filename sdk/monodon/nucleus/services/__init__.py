"""The services of a nucleus that components call over IPC or HTTP, one a file."""
