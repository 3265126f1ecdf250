"""The file of a backup: complete, or refused before anything is deleted."""

import hashlib
from pathlib import Path

import pyrage
import pytest

from tailrace_shared.admin.backups.archive import (
    FORMAT,
    ArchiveReader,
    ArchiveWriter,
    Manifest,
    StoredStream,
    verify,
)
from tailrace_shared.errors import StartupError

CHUNKS = [b"a" * 100_000, b"b" * 3, b"c" * 200_000]


@pytest.fixture
def identity() -> str:
    return str(pyrage.x25519.Identity.generate())


def _write(path: Path, identity: str, *, sha256: str = "", version: int = FORMAT) -> None:
    recipient = pyrage.x25519.Identity.from_str(identity).to_public()
    writer = ArchiveWriter(path, [str(recipient)])
    writer.add_stream("EVENTS", {"name": "EVENTS"}, {"messages": 3})
    for number, chunk in enumerate(CHUNKS):
        writer.add_chunk("EVENTS", number, chunk)
    digest = sha256 or hashlib.sha256(b"".join(CHUNKS)).hexdigest()
    stored = StoredStream(3, 9, len(CHUNKS), digest)
    writer.finish(Manifest(version, "0.3.0", "tr", "2026-11-29T12:00:00Z", {"EVENTS": stored}))


def test_a_backup_is_read_as_it_was_written(tmp_path: Path, identity: str):
    """Its content is not in the file in clear."""
    path = tmp_path / "backup.age"
    _write(path, identity)
    assert verify(path, f"# a comment\n{identity}\n").streams["EVENTS"].last_sequence == 9
    with ArchiveReader(path, identity) as reader:
        first, *chunks = reader.entries()
    assert first.config == {"config": {"name": "EVENTS"}, "state": {"messages": 3}}
    assert [entry.chunk for entry in chunks] == CHUNKS
    assert b"EVENTS" not in path.read_bytes()
    assert [each.name for each in tmp_path.iterdir()] == ["backup.age"]


def test_a_damaged_backup_is_refused(tmp_path: Path, identity: str):
    """One that was cut, changed, or is not as its manifest says."""
    path = tmp_path / "backup.age"
    _write(path, identity)
    whole = path.read_bytes()
    for damaged in (
        whole[:-1],
        whole[: len(whole) // 2],
        whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:],
        b"",
    ):
        path.write_bytes(damaged)
        with pytest.raises(StartupError):
            verify(path, identity)
    _write(path, identity, sha256="0" * 64)
    with pytest.raises(StartupError, match="stream EVENTS is not as its manifest says"):
        verify(path, identity)
    _write(path, identity, version=FORMAT + 1)
    with pytest.raises(StartupError, match="newer version"):
        verify(path, identity)


def test_wrong_keys_and_files_are_refused(tmp_path: Path, identity: str):
    """Each error names the option or the file."""
    path = tmp_path / "backup.age"
    _write(path, identity)
    with pytest.raises(StartupError, match="the backup file"):
        verify(path, str(pyrage.x25519.Identity.generate()))
    with pytest.raises(StartupError, match="--identity-file"):
        verify(path, "no key")
    with pytest.raises(StartupError, match="cannot read"):
        verify(tmp_path / "none", identity)
    with pytest.raises(StartupError, match="--recipient"):
        ArchiveWriter(path, ["ssh-rsa x"])
    with pytest.raises(StartupError, match="cannot write"):
        ArchiveWriter(tmp_path / "none" / "x", [])
    writer = ArchiveWriter(
        tmp_path / "second", [str(pyrage.x25519.Identity.from_str(identity).to_public())]
    )
    writer.discard()
    assert [each.name for each in tmp_path.iterdir()] == ["backup.age"]
