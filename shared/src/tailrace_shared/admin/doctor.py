"""``tailrace doctor``: one line a check, and exit code 1 if one fails."""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
import nats.errors
from nats.aio.client import Client

from tailrace_shared.errors import (
    ExecutionNotFoundError,
    JetStreamError,
    NewerLogError,
    ServiceError,
)
from tailrace_shared.execution.events import TERMINAL
from tailrace_shared.execution.state import IllegalEventError
from tailrace_shared.nats.components import Component, discover, running_version
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.provision import plan, version_of
from tailrace_shared.nats.startup import StartupLimit
from tailrace_shared.nats.topology import DEAD, EVENTS, TOPOLOGY_VERSION, topology
from tailrace_shared.settings import CommonSettings
from tailrace_shared.stores.indexes.due_index import Due
from tailrace_shared.stores.stores import Stores
from tailrace_shared.subjects import DRIVEN, Subjects

Verdict = Literal["ok", "warn", "FAIL"]

# Services wait longer. Here an operator waits, and that NATS is away is a result.
_CONNECT_LIMIT_S: Final = 10.0
_MAX_SKEW_S: Final = 1.0
_OVERDUE_S: Final = 60.0
# Late executions that are examined. The others count as overdue.
_MAX_EXAMINED: Final = 500
_EXAMINED_AT_ONCE: Final = 32
_ANSWER_S: Final = 2.0
# Shares of a limit of NATS.
_USE_WARN: Final = 0.8
_USE_FAIL: Final = 0.95
# Streams with a replica that is behind are asked again this often, all of them in each round.
_CHECKS: Final = 10
_CHECK_PAUSE_S: Final = 0.5


class Finding(msgspec.Struct, frozen=True):
    """The result of one check.

    Attributes:
        verdict: ``FAIL`` if an operator must act, ``warn`` if an operator should look.
    """

    verdict: Verdict
    check: str
    detail: str


async def command(settings: CommonSettings, options: argparse.Namespace) -> int:
    """Run all checks and print their findings; return 1 if one failed."""
    client = await connect(
        settings,
        "tailrace-doctor",
        StartupLimit(min(settings.nats_connect_timeout, _CONNECT_LIMIT_S)),
        inbox_prefix=Subjects(settings.prefix).inboxes("admin"),
    )
    try:
        findings = [finding async for finding in Doctor(settings, client).findings()]
    finally:
        await client.close()
    if options.json:
        sys.stdout.write(msgspec.json.encode(findings).decode() + "\n")
    else:
        for each in findings:
            sys.stdout.write(f"{each.verdict:4}  {each.check}: {each.detail}\n")
    return 1 if any(each.verdict == "FAIL" for each in findings) else 0


@dataclass(frozen=True, slots=True)
class _Facts:
    """The answers of NATS that several checks use.

    Attributes:
        now: the time of NATS, in seconds since the epoch.
    """

    account: dict[str, Any]
    streams: dict[str, dict[str, Any]]
    components: list[Component]
    now: float


def _verdict_of(share: float) -> Verdict:
    """Return what it means that a share of a limit is used."""
    if share > _USE_FAIL:
        return "FAIL"
    return "warn" if share > _USE_WARN else "ok"


def _problems_of(name: str, info: dict[str, Any]) -> list[str]:
    cluster = info.get("cluster") or {}
    problems = [f"{name} has no leader"] if cluster and not cluster.get("leader") else []
    for replica in cluster.get("replicas") or []:
        if replica.get("offline") or not replica.get("current"):
            state = "offline" if replica.get("offline") else "behind"
            problems.append(f"{name} on {replica['name']} is {state}")
    return problems


class Doctor:
    """Checks one installation."""

    def __init__(self, settings: CommonSettings, client: Client) -> None:
        self._settings = settings
        self._client = client
        self._jetstream = JetStream(client)
        self._subjects = Subjects(settings.prefix)
        self._stores = Stores.over(self._jetstream, self._subjects)

    async def findings(self) -> AsyncIterator[Finding]:
        """Run the checks one after the other."""
        server = self._client.connected_server_version
        version = f"{server.major}.{server.minor}.{server.patch}"
        yield Finding("ok", "nats", f"version {version}, JetStream is on")
        facts = await self._facts()
        checks: tuple[tuple[str, Callable[[_Facts], Awaitable[Finding]]], ...] = (
            ("store", self._store),
            ("limits", self._limits),
            ("topology", self._topology),
            ("replicas", self._replicas),
            ("components", self._components),
            ("clocks", self._clocks),
            ("overdue", self._overdue),
            ("dead letters", self._dead_letters),
        )
        for name, check in checks:
            try:
                yield await check(facts)
            except ServiceError as error:
                yield Finding("FAIL", name, f"cannot be checked: {error}")

    async def _facts(self) -> _Facts:
        streams = {}
        for spec in topology(self._settings):
            try:
                streams[spec.name] = await self._jetstream.api(f"STREAM.INFO.{spec.name}")
            except JetStreamError:
                continue  # the check of the topology names it
        account = await self._jetstream.api("INFO")
        events = streams.get(self._subjects.stream(EVENTS))
        now = datetime.fromisoformat(events["ts"]).timestamp() if events else 0.0
        return _Facts(account, streams, await discover(self._client, self._subjects), now)

    async def _store(self, facts: _Facts) -> Finding:
        used, limit = facts.account["storage"], facts.account["limits"]["max_storage"]
        shares = {
            name: info["state"]["bytes"] / info["config"]["max_bytes"]
            for name, info in facts.streams.items()
            if info["config"].get("max_bytes", -1) > 0
        }
        details = [f"{used / 1e6:.0f} MB used, no limit for this account"]
        if limit > 0:
            details = [f"{used / limit:.0%} of {limit / 1e6:.0f} MB used"]
        if fullest := max(shares, key=shares.__getitem__, default=""):
            details.append(f"the fullest stream is {fullest}, to {shares[fullest]:.0%}")
        # A stream refuses messages when its own space is used up, or that of the account.
        share = max(used / limit if limit > 0 else 0.0, *shares.values(), 0.0)
        return Finding(_verdict_of(share), "store", "; ".join(details))

    async def _limits(self, facts: _Facts) -> Finding:
        uses = {
            what: (facts.account[what], facts.account["limits"][f"max_{what}"])
            for what in ("streams", "consumers")
        }
        limited = {what: (used, limit) for what, (used, limit) in uses.items() if limit > 0}
        share = max((used / limit for used, limit in limited.values()), default=0.0)
        found = [
            f"{used} of {limit} {what}" if what in limited else f"{used} {what}, no limit"
            for what, (used, limit) in uses.items()
        ]
        return Finding(_verdict_of(share), "limits", "; ".join(found))

    async def _topology(self, facts: _Facts) -> Finding:
        changes = await plan(self._jetstream, topology(self._settings))
        events = facts.streams.get(self._subjects.stream(EVENTS))
        found = version_of(events["config"]) if events else 0
        if not changes:
            return Finding("ok", "topology", f"version {found}")
        missing = [change.spec.name for change in changes if change.config is None]
        verdict: Verdict = "FAIL" if missing else "warn"
        detail = f"missing {', '.join(missing)}" if missing else f"{len(changes)} streams differ"
        return Finding(
            verdict,
            "topology",
            f"version {found}, this release prefers {TOPOLOGY_VERSION}; {detail}: "
            "run `tailrace topology plan`",
        )

    async def _replicas(self, facts: _Facts) -> Finding:
        problems = await self._lasting_problems(facts.streams)
        if problems:
            more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
            return Finding("FAIL", "replicas", "; ".join(problems[:3]) + more)
        return Finding("ok", "replicas", f"{self._settings.nats_replicas} of each stream, current")

    async def _lasting_problems(self, streams: dict[str, dict[str, Any]]) -> list[str]:
        """Return what is wrong with the replicas of streams for some seconds.

        A replica is behind for a moment whenever its leader has just stored a message.
        """
        problems = {name: _problems_of(name, info) for name, info in streams.items()}
        for _ in range(_CHECKS):
            names = [name for name, found in problems.items() if found]
            if not names:
                break
            await asyncio.sleep(_CHECK_PAUSE_S)
            for name in names:
                info = await self._jetstream.api(f"STREAM.INFO.{name}")
                problems[name] = _problems_of(name, info)
        return [problem for found in problems.values() for problem in found]

    async def _components(self, facts: _Facts) -> Finding:
        counts: dict[str, int] = {}
        for each in facts.components:
            name = f"{each.kind} {each.version}"
            counts[name] = counts.get(name, 0) + 1
        text = ", ".join(f"{count} x {name}" for name, count in sorted(counts.items()))
        missing = {"api", "worker"} - {each.kind for each in facts.components}
        if missing:
            detail = f"no {' and no '.join(sorted(missing))} answers"
            return Finding("FAIL", "components", f"{detail}{f'; {text}' if text else ''}")
        versions = {each.version for each in facts.components} | {running_version()}
        return Finding("ok" if len(versions) == 1 else "warn", "components", text)

    async def _clocks(self, facts: _Facts) -> Finding:
        skews = {each.id: each.clock - facts.now for each in facts.components}
        # The answers came within the second in which they were collected.
        wrong = {name: skew for name, skew in skews.items() if abs(skew) > 1 + _MAX_SKEW_S}
        if wrong:
            text = ", ".join(f"{name} by {skew:+.1f} s" for name, skew in sorted(wrong.items()))
            return Finding("FAIL", "clocks", f"differ from that of NATS: {text}; run NTP")
        return Finding("ok", "clocks", f"{len(skews)} services agree with NATS")

    async def _overdue(self, facts: _Facts) -> Finding:
        latest = facts.now - _OVERDUE_S
        late = [
            due async for due in self._stores.due.entries() if max(due.by, due.written_at) < latest
        ]
        examined, others = late[:_MAX_EXAMINED], late[_MAX_EXAMINED:]
        turns = asyncio.Semaphore(_EXAMINED_AT_ONCE)

        async def is_overdue(due: Due) -> bool:
            async with turns:
                return await self._is_overdue(due)

        found = await asyncio.gather(*map(is_overdue, examined))
        overdue = [due for due, is_one in zip(examined, found, strict=True) if is_one] + others
        if not overdue:
            return Finding("ok", "overdue", "no execution is overdue")
        first = overdue[0]
        return Finding(
            "FAIL",
            "overdue",
            f"{len(overdue)} executions, the first is {first.tenant}/{first.execution}: "
            "check that workers run and reach NATS",
        )

    async def _is_overdue(self, due: Due) -> bool:
        """Return whether an execution with a late entry goes on without a worker."""
        log = self._stores.log
        try:
            last = await log.last_commit(due.tenant, due.execution)
            if last is None:
                return True
            if isinstance(last.events()[-1], TERMINAL):
                return False  # the sweeper removes the entry
            writer = await log.driver_of(due.tenant, last)
        except ExecutionNotFoundError:  # it has been deleted since
            return False
        except (NewerLogError, IllegalEventError, msgspec.DecodeError):
            return True  # a newer version must run, or an operator must look
        return not (writer and await self._is_driving(writer, due))

    async def _is_driving(self, writer: str, due: Due) -> bool:
        """Ask a worker whether it drives an execution: a step may take longer than a minute."""
        question = f"{due.tenant}.{due.execution}".encode()
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            subject = self._subjects.worker(writer)
            answer = await self._client.request(subject, question, timeout=_ANSWER_S)
            return answer.data == DRIVEN
        return False

    async def _dead_letters(self, facts: _Facts) -> Finding:
        info = facts.streams.get(self._subjects.stream(DEAD))
        count = info["state"]["messages"] if info else 0
        if not count:
            return Finding("ok", "dead letters", "none")
        return Finding("warn", "dead letters", f"{count}: see `tailrace dead ls`")
