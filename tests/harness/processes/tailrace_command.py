"""Run the ``tailrace`` command as a process."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple


class CommandResult(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.stdout)

    @property
    def json_lines(self) -> list[Any]:
        """The JSON documents on stdout, one a line."""
        return [json.loads(line) for line in self.stdout.splitlines()]


class TailraceCommand:
    """Runs ``tailrace`` in a folder, with the API at a URL.

    Attributes:
        environment: its environment variables.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "TAILRACE_URL": url, "COLUMNS": "80", "LINES": "24"}

    def __call__(self, *arguments: str, seconds: float = 100.0) -> CommandResult:
        """Run the command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "tailrace", *arguments],
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd=self.folder,
            env=self.environment,
            check=False,
        )
        return CommandResult(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start the command without waiting for its end."""
        return subprocess.Popen(
            [sys.executable, "-m", "tailrace", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environment,
        )

    def in_terminal(self, *arguments: str) -> CommandResult:
        """Run the command in a terminal of 80 by 24; stdout is everything that it drew."""
        controller, terminal = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "tailrace", *arguments],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            cwd=self.folder,
            env={**self.environment, "TERM": "xterm-256color"},
        )
        os.close(terminal)
        drawn = bytearray()
        try:
            while block := os.read(controller, 65536):
                drawn += block
        except OSError:  # Linux returns EIO once the last process has closed the terminal.
            pass
        finally:
            os.close(controller)
        return CommandResult(process.wait(60), drawn.decode(errors="replace"), "")

    def write(self, name: str, content: str) -> Path:
        """Write a file into the folder."""
        path = self.folder / name
        path.write_text(content)
        return path
