"""The limit of open files, which thousands of connections need raised."""

import resource


class TooFewFilesError(Exception):
    """The system allows fewer open files than are needed."""


def allow_open_files(count: int) -> None:
    """Let this process, and those that it starts, open so many files.

    Systems start processes with a soft limit of about a thousand, and leave it to those that know
    better to raise it.

    Raises:
        TooFewFilesError: it may not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise TooFewFilesError(
            f"{hard} open files are allowed, {count} are needed: raise ulimit -Hn"
        )
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
