"""An operator can run the commands of the runbooks as they are written."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from harness.documentation import ROOT, blocks
from harness.kubernetes.cluster import Cluster
from harness.kubernetes.release import Release
from tools.kubernetes_tools import FOLDER

RUNBOOKS: Final = "docs/runbooks/"
PAGES: Final = [
    *(RUNBOOKS + page.name for page in sorted((ROOT / RUNBOOKS).glob("*.md"))),
    "docs/operations.md",
]
INTERNAL: Final = {"API": "api", "SERVER": "nats"}
"""Placeholders for the address of a pod, and its component."""


def commands(program: str) -> Iterator[str]:
    """Yield the lines of a program in the blocks of the runbooks, and the doctor's line."""
    for block in blocks(PAGES, "sh"):
        for line in block.text.splitlines():
            command = line.partition("  #")[0].strip()
            is_wanted = block.place.startswith(RUNBOOKS) or command.endswith(" doctor")
            if is_wanted and command.startswith(f"{program} "):
                yield command


@pytest.mark.parametrize("command", sorted({*commands("kubectl")}))
def test_kubectl_accepts_a_command(
    cluster: Cluster, release: Release, tmp_path: Path, command: str
):
    """In a context with the namespace of the release."""
    config = tmp_path / "config"
    config.write_bytes(cluster.config.read_bytes())
    environment = {
        **os.environ,
        "PATH": f"{FOLDER}:{os.environ['PATH']}",
        "KUBECONFIG": str(config),
    }
    here = f"--namespace={release.name}"
    subprocess.run(
        ["kubectl", "config", "set-context", "--current", here], check=True, env=environment
    )
    command = command.replace("deploy/tailrace-", f"deploy/{release.name}-")
    command = command.replace("POD", release.pods("api")[0]["metadata"]["name"])
    ended = subprocess.run(
        command, shell=True, capture_output=True, text=True, check=False, env=environment
    )
    # What a command searches for is absent as long as nothing is wrong.
    expected = {0, 1} if "| grep" in command else {0}
    is_empty = "No resources found" in ended.stderr and "-n nats" in command
    assert ended.returncode in expected, ended
    assert not ended.stderr or is_empty, ended


@pytest.mark.parametrize("command", sorted({*commands("curl")}))
def test_an_address_answers(release: Release, command: str):
    """Those of the internal ports."""
    address = command.rsplit(maxsplit=1)[-1].removeprefix("http://")
    placeholder, _, rest = address.partition(":")
    [pod, *_] = release.pods(INTERNAL[placeholder])
    answer = httpx.get(f"http://{pod['status']['podIP']}:{rest}")
    assert answer.status_code == 200, answer.text
