"""``tailrace restore``: bring an installation back from a backup.

All services must be stopped. The log keeps its epoch, so clients go on after their last id. Ids
that were given out after the backup are answered with ``stream:reset``.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tailrace_shared.admin.backups.archive import ArchiveReader, Entry, Manifest, verify
from tailrace_shared.admin.backups.rebuild import Rebuild, Rebuilt
from tailrace_shared.admin.backups.snapshots import GAP, SequenceGap, StreamRestore, is_events
from tailrace_shared.errors import JetStreamError, StartupError
from tailrace_shared.nats.components import discover
from tailrace_shared.nats.jetstream import STREAM_NOT_FOUND, JetStream, connect
from tailrace_shared.nats.provision import ensure
from tailrace_shared.nats.topology import DESCENDANTS, RATE, topology
from tailrace_shared.settings import CommonSettings
from tailrace_shared.stores.stores import Stores
from tailrace_shared.subjects import Subjects

DEFAULT_SKIP: Final = 10_000_000
# NATS removes the folder of an account without streams after it has answered, and would remove that
# of the first restored stream.
_SETTLED_S: Final = 1.0


async def command(settings: CommonSettings, options: argparse.Namespace) -> int:
    """Verify a backup and restore it; print what was done."""
    begun = time.monotonic()
    path = Path(options.path)
    identities = _identities(Path(options.identity_file))
    manifest = await asyncio.to_thread(verify, path, identities)
    if options.verify_only:
        sys.stdout.write(f"{path}: complete, of {manifest.created_at}\n")
        return 0
    client = await connect(
        settings, "tailrace-restore", inbox_prefix=Subjects(settings.prefix).inboxes("admin")
    )
    try:
        restore = Restore(JetStream(client), settings, manifest, options.skip_sequences)
        await restore.prepare(replaces=options.replace)
        rebuilt = await restore.run(path, identities)
    finally:
        await client.close()
    sys.stdout.write(
        f"restored the state of {manifest.created_at} in {time.monotonic() - begun:.1f} s: "
        f"{rebuilt.ended} executions had ended, {rebuilt.live} go on, "
        f"{rebuilt.unreadable} cannot be read\n"
    )
    return 0


class Restore:
    """Restores one backup, which has been verified.

    Args:
        jetstream: the connection.
        settings: the installation.
        manifest: the manifest of the backup.
        skip: how many sequences of the log to skip. At least as many as may have been used after
            the backup; NATS needs about a second for each ten million whenever it starts.
    """

    def __init__(
        self, jetstream: JetStream, settings: CommonSettings, manifest: Manifest, skip: int
    ) -> None:
        self._jetstream = jetstream
        self._settings = settings
        self._subjects = Subjects(settings.prefix)
        self._manifest = manifest
        self._skip = skip

    async def prepare(self, *, replaces: bool) -> None:
        """Check that nothing is in the way, or delete it.

        Args:
            replaces: whether to delete the streams that exist.

        Raises:
            StartupError: services run, streams exist, or the backup is of another prefix.
            UnavailableError: NATS did not answer.
        """
        if self._manifest.prefix != self._settings.prefix:
            raise StartupError(
                f"the backup is of the prefix {self._manifest.prefix!r}: set TAILRACE_PREFIX to it"
            )
        if running := await discover(self._jetstream.client, self._subjects):
            names = ", ".join(sorted(each.id for each in running))
            raise StartupError(f"stop all services first; these run: {names}")
        existing = [name for name in self._names() if await self._exists(name)]
        if existing and not replaces:
            raise StartupError(
                f"there is an installation already (stream {existing[0]}): "
                "--replace deletes all of it"
            )
        for name in existing:
            await self._jetstream.api(f"STREAM.DELETE.{name}")
        if existing:
            await asyncio.sleep(_SETTLED_S)

    async def run(self, path: Path, identities: str) -> Rebuilt:
        """Restore the streams, skip sequences, rebuild the indexes and start what is live.

        Raises:
            StartupError: a stream cannot be restored.
            UnavailableError: NATS did not answer. Repeat it with ``--replace``.
            JetStreamError: JetStream refused.
        """
        gap: SequenceGap | None = None
        restoring: StreamRestore | None = None
        with ArchiveReader(path, identities) as reader:
            entries = reader.entries()
            while (entry := await asyncio.to_thread(_next, entries)) is not None:
                if entry.config is None:
                    if restoring is not None:
                        await restoring.add(entry.chunk)
                    continue
                if restoring is not None:
                    await restoring.finish()
                config = self._config(entry.config["config"])
                state = entry.config["state"]
                if is_events(self._subjects, entry.stream):
                    gap = SequenceGap(
                        self._jetstream, self._subjects, config, state["last_seq"], self._skip
                    )
                    config = await gap.mirror()
                restoring = StreamRestore(self._jetstream, config, state)
                await restoring.begin()
                sys.stderr.write(f"stream {entry.stream}: {state['messages']} messages\n")
            if restoring is not None:
                await restoring.finish()
        if gap is not None:
            await gap.close()
        await ensure(self._jetstream, topology(self._settings))
        stores = Stores.over(self._jetstream, self._subjects)
        return await Rebuild(self._jetstream, self._subjects, stores).run(_report)

    def _config(self, config: dict[str, Any]) -> dict[str, Any]:
        return {**config, "num_replicas": self._settings.nats_replicas}

    def _names(self) -> Iterator[str]:
        yield from (spec.name for spec in topology(self._settings))
        yield from (self._subjects.stream(name) for name in (RATE, DESCENDANTS, GAP))

    async def _exists(self, name: str) -> bool:
        try:
            await self._jetstream.api(f"STREAM.INFO.{name}")
        except JetStreamError as error:
            if error.code != STREAM_NOT_FOUND:
                raise
            return False
        return True


def _identities(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise StartupError(f"--identity-file: cannot read {path}: {error.strerror}") from None


def _next(entries: Iterator[Entry]) -> Entry | None:
    return next(entries, None)


def _report(added: int, missing: int) -> None:
    if added == missing:
        sys.stderr.write(f"list of runs: {added} rows\n")
