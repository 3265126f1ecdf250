"""One encrypted file with the streams of an installation and a manifest.

The file is a tar in the format of age (https://age-encryption.org), written and read as a stream.
To make a backup, the public key (``age1…``) is enough. For each stream the tar has its
configuration and state, then the chunks of its snapshot. The manifest is the last entry.
"""

import contextlib
import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, NamedTuple, Self

import msgspec

from tailrace_shared.errors import StartupError

FORMAT: Final = 1
_MANIFEST: Final = "manifest.json"
_STREAM: Final = "stream.json"


class StoredStream(msgspec.Struct):
    """The entry of one stream in the manifest.

    Attributes:
        chunks: how many chunks its snapshot has.
        sha256: the digest of all chunks.
    """

    messages: int
    last_sequence: int
    chunks: int
    sha256: str


class Manifest(msgspec.Struct):
    """The content of a backup.

    Attributes:
        format: the version of this format.
        version: the version of Tailrace that wrote it.
        prefix: the prefix of the installation.
        created_at: when it was begun, by the clock of NATS (RFC 3339).
        streams: the streams by name, in the order of their snapshots.
    """

    format: int
    version: str
    prefix: str
    created_at: str
    streams: dict[str, StoredStream]


class Entry(NamedTuple):
    """A part of a backup: the configuration of a stream, or a chunk of its snapshot."""

    stream: str
    config: dict[str, Any] | None
    chunk: bytes


class _Cipher:
    """Runs age in a thread between a pipe and a file."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="age", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - raised where the thread is joined
            self._error = error

    def join(self) -> None:
        """Wait for the end; raise the error of the thread."""
        self._thread.join()
        if self._error is not None:
            raise StartupError(f"the backup file: {self._error}") from self._error


class ArchiveWriter:
    """Writes a backup; the file gets its name when it is complete.

    Args:
        path: the file.
        recipients: the public keys of its readers.

    Raises:
        StartupError: a key is invalid, or the file cannot be written.
    """

    def __init__(self, path: Path, recipients: Sequence[str]) -> None:
        age = _age()
        try:
            keys = [age.x25519.Recipient.from_str(each) for each in recipients]
        except age.RecipientError as error:
            raise StartupError(f"--recipient: {error}; it begins with `age1`") from error
        self._path, self._part = path, path.with_name(f"{path.name}.part")
        try:
            self._file = self._part.open("wb")
        except OSError as error:
            raise StartupError(f"cannot write {path}: {error.strerror}") from error
        source, sink = os.pipe()
        self._pipe: BinaryIO = os.fdopen(sink, "wb")

        def encrypt() -> None:
            with os.fdopen(source, "rb") as plain:
                age.encrypt_io(plain, self._file, keys)

        self._cipher = _Cipher(encrypt)
        self._tar = tarfile.open(fileobj=self._pipe, mode="w|")  # noqa: SIM115 - closed in finish

    def add_stream(self, stream: str, config: dict[str, Any], state: dict[str, Any]) -> None:
        self._add(f"{stream}/{_STREAM}", msgspec.json.encode({"config": config, "state": state}))

    def add_chunk(self, stream: str, number: int, chunk: bytes) -> None:
        self._add(f"{stream}/{number:09}", chunk)

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest and give the file its name.

        Raises:
            StartupError: the file cannot be written.
        """
        self._add(_MANIFEST, msgspec.json.encode(manifest))
        self._tar.close()
        self._pipe.close()
        self._cipher.join()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(self._path)

    def discard(self) -> None:
        """Remove an incomplete file."""
        with contextlib.suppress(OSError):
            self._pipe.close()
        with contextlib.suppress(StartupError):
            self._cipher.join()
        self._file.close()
        self._part.unlink(missing_ok=True)

    def _add(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        try:
            self._tar.addfile(info, io.BytesIO(data))
        except OSError as error:
            self._cipher.join()
            raise StartupError(f"cannot write {self._path}: {error.strerror}") from error


class ArchiveReader:
    """Reads a backup from its beginning. Use it in a ``with`` block.

    Args:
        path: the file.
        identities: the text of an age identity file, with secret keys.

    Attributes:
        manifest: the manifest, once all entries have been read.

    Raises:
        StartupError: the file cannot be read, or no key fits.
    """

    def __init__(self, path: Path, identities: str) -> None:
        self._age = _age()
        self._path = path
        lines = (line.strip() for line in identities.splitlines())
        keys = [line for line in lines if line and not line.startswith("#")]
        try:
            self._keys = [self._age.x25519.Identity.from_str(key) for key in keys]
        except self._age.IdentityError as error:
            raise StartupError(f"--identity-file: {error}; see age-keygen") from error
        self.manifest: Manifest | None = None

    def __enter__(self) -> Self:
        try:
            self._file = self._path.open("rb")
        except OSError as error:
            raise StartupError(f"cannot read {self._path}: {error.strerror}") from error
        source, sink = os.pipe()
        self._pipe = os.fdopen(source, "rb")

        def decrypt() -> None:
            with os.fdopen(sink, "wb") as plain:
                self._age.decrypt_io(self._file, plain, self._keys)

        self._cipher = _Cipher(decrypt)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pipe.close()
        with contextlib.suppress(StartupError):
            self._cipher.join()
        self._file.close()

    def entries(self) -> Iterator[Entry]:
        """Yield all entries.

        Raises:
            StartupError: the file is damaged, incomplete, or not a backup.
        """
        try:
            with tarfile.open(fileobj=self._pipe, mode="r|") as tar:
                for member in tar:
                    content = tar.extractfile(member)
                    yield from self._entry(member.name, content.read() if content else b"")
        except (tarfile.TarError, OSError, msgspec.MsgspecError) as error:
            self._cipher.join()
            raise StartupError(f"{self._path} is no backup, or is damaged: {error}") from error
        self._cipher.join()
        if self.manifest is None:
            raise StartupError(f"{self._path} is incomplete: it has no manifest")

    def _entry(self, name: str, data: bytes) -> Iterator[Entry]:
        stream, _, part = name.partition("/")
        if name == _MANIFEST:
            self.manifest = msgspec.json.decode(data, type=Manifest)
        elif part == _STREAM:
            yield Entry(stream, msgspec.json.decode(data, type=dict[str, Any]), b"")
        else:
            yield Entry(stream, None, data)


def verify(path: Path, identities: str) -> Manifest:
    """Read a whole backup, compare it with its manifest, and return that.

    Raises:
        StartupError: it is damaged, incomplete, of a newer format, or no key fits.
    """
    digests: dict[str, Any] = {}
    chunks: dict[str, int] = {}
    with ArchiveReader(path, identities) as reader:
        for entry in reader.entries():
            if entry.config is not None:
                digests[entry.stream], chunks[entry.stream] = hashlib.sha256(), 0
            elif entry.stream in digests:
                digests[entry.stream].update(entry.chunk)
                chunks[entry.stream] += 1
        manifest = reader.manifest
    if manifest is None or manifest.format > FORMAT:
        raise StartupError(f"{path} was written by a newer version of Tailrace")
    for name, stored in manifest.streams.items():
        found = digests[name].hexdigest() if name in digests else ""
        if found != stored.sha256 or chunks[name] != stored.chunks:
            raise StartupError(f"{path} is damaged: stream {name} is not as its manifest says")
    return manifest


def _age() -> Any:
    try:
        import pyrage  # noqa: PLC0415 - an extra, of which only these commands know
    except ImportError:
        raise StartupError(
            "backups need the library pyrage: install the extra `backup` of tailrace-shared"
        ) from None
    return pyrage
