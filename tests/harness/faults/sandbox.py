"""A sandbox for fault campaigns: its own network, mounts and processes.

A command runs as the first process of new namespaces. When it ends, however it ends, the kernel
kills all processes that it started and removes its interfaces, mounts and loop devices. Nothing
outside can be reached from inside except the file system.
"""

import subprocess
from collections.abc import Sequence
from typing import Final

_NAMESPACES: Final = (
    # The sandbox ends with the process that has started it.
    *("setpriv", "--pdeathsig", "KILL"),
    "unshare",
    *("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
)
_TIMEOUT_S: Final = 30.0
# Everything that a campaign needs, tried once in a sandbox of its own.
_PROBE: Final = """
set -e
ip link set lo up
ip link add probe type bridge
ip netns list >/dev/null
command -v nsenter >/dev/null
command -v chattr >/dev/null
truncate -s 8M "$1/disk"
mkfs.ext4 -q -F "$1/disk"
mkdir "$1/mounted"
mount -o loop "$1/disk" "$1/mounted"
"""


def sandboxed(command: Sequence[str]) -> list[str]:
    """Return a command that runs ``command`` in a sandbox."""
    return [*_NAMESPACES, *command]


def obstacle(folder: str) -> str:
    """Return why a sandbox cannot be made here, or an empty string if it can.

    Args:
        folder: an empty folder for files of the probe.
    """
    probe = sandboxed(["sh", "-c", _PROBE, "probe", folder])
    try:
        done = subprocess.run(probe, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.decode().strip() or "no reason given" if done.returncode else ""
