"""As many connections as the system allows: each is an open file, and a shell allows 1,024 of them."""

import resource


def allow_open_files() -> int:
    """Raise this process's limit of open files to its hard limit; return what it is then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
