"""Raise the limit of open files for thousands of connections."""

import resource


class TooFewFilesError(Exception):
    """The system allows fewer open files than are needed."""


def allow_open_files(count: int) -> None:
    """Raise the soft limit of this process, which its child processes inherit.

    Raises:
        TooFewFilesError: the hard limit is lower than ``count``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise TooFewFilesError(
            f"{hard} open files are allowed, {count} are needed: raise ulimit -Hn"
        )
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
