"""``tailrace doctor`` finds what is wrong with an installation, one line a check."""

import functools

import msgspec
import pytest

from harness.generators.hand_written_log import completed, queued, started
from harness.processes.ports import free_port
from tailrace_shared.admin.__main__ import main
from tailrace_shared.admin.doctor import Doctor
from tailrace_shared.errors import NatsUnreachableError
from tailrace_shared.execution import commands
from tailrace_shared.ids import new_execution_id
from tailrace_shared.nats.components import Component, announce
from tailrace_shared.nats.fenced_append import VERSION
from tailrace_shared.nats.provision import ensure
from tailrace_shared.nats.topology import KEYS, topology
from tailrace_shared.stores.indexes.due_index import DueIndex


@pytest.fixture
async def services(site):
    """Announce an API and a worker of this release."""
    await announce(site.client, site.subjects, "api", "api-1")
    await announce(site.client, site.subjects, "worker", "worker-1")


async def examine(site):
    """Return the findings by the name of their check."""
    return {each.check: each async for each in Doctor(site.settings, site.client).findings()}


@pytest.mark.usefixtures("services")
async def test_a_healthy_installation_passes_every_check(site):
    findings = await examine(site)
    assert {each.verdict for each in findings.values()} == {"ok"}
    assert len(findings) == 9


@pytest.mark.usefixtures("services")
async def test_a_stream_without_space_fails_and_is_named(site):
    """Every stream has a share of the space, and refuses messages when that is used up."""
    info = await site.jetstream.api(f"STREAM.INFO.{site.events}")
    await site.jetstream.api(
        f"STREAM.UPDATE.{site.events}", {**info["config"], "max_bytes": 10_000}
    )
    subject = site.subjects.log("t", "e")
    await site.jetstream.publish(subject, bytes(8_500))
    found = (await examine(site))["store"]
    assert (found.verdict, f"the fullest stream is {site.events}" in found.detail) == ("warn", True)
    await site.jetstream.publish(subject, bytes(1_000))
    assert (await examine(site))["store"].verdict == "FAIL"


@pytest.mark.parametrize(("limit", "verdict"), [(-1, "ok"), (40, "ok"), (24, "warn"), (20, "FAIL")])
async def test_an_account_that_allows_few_streams_is_found(site, limit, verdict):
    """NATS refuses the next stream or consumer at the limit of the account."""
    doctor = Doctor(site.settings, site.client)
    facts = await doctor._facts()
    facts.account["streams"] = 20
    facts.account["limits"]["max_streams"] = limit
    found = await doctor._limits(facts)
    assert found.verdict == verdict
    assert ("20 streams, no limit" if limit < 0 else f"20 of {limit} streams") in found.detail


async def test_services_that_do_not_answer_fail(site):
    await announce(site.client, site.subjects, "worker", "worker-1")
    found = (await examine(site))["components"]
    assert (found.verdict, found.detail[:15]) == ("FAIL", "no api answers;")


@pytest.mark.usefixtures("services")
async def test_a_wrong_clock_fails_and_names_the_service(site):
    async def answer(request):
        late = Component("worker", "slow", "0.0.1", 1.0)
        await request.respond(msgspec.json.encode(late))

    await site.client.subscribe(site.subjects.components(), cb=answer)
    findings = await examine(site)
    assert findings["clocks"].verdict == "FAIL"
    assert "slow by -" in findings["clocks"].detail
    # Another version beside this one is what a rollout looks like.
    assert findings["components"].verdict == "warn"


@pytest.mark.usefixtures("services")
async def test_an_overdue_execution_fails(site):
    await DueIndex(site.jetstream, site.subjects).put("t", "e1", 1.0)
    doctor = Doctor(site.settings, site.client)
    facts = await doctor._facts()
    assert (await doctor._overdue(facts)).verdict == "ok"  # written a moment ago
    later = type(facts)(facts.account, facts.streams, facts.components, facts.now + 120)
    found = await doctor._overdue(later)
    assert found.verdict == "FAIL"
    assert "1 executions, the first is t/e1" in found.detail


@pytest.mark.usefixtures("services")
async def test_an_execution_that_a_worker_drives_is_not_overdue(site):
    """A step may take longer than a minute. Its worker is asked, also if a command came last."""
    doctor = Doctor(site.settings, site.client)
    facts = await doctor._facts()
    later = type(facts)(facts.account, facts.streams, facts.components, facts.now + 120)
    execution = new_execution_id()
    driven = []

    async def answer(question):
        await question.respond(b"1" if question.data.decode() in driven else b"0")

    await site.client.subscribe(site.subjects.worker("w1"), cb=answer)
    await DueIndex(site.jetstream, site.subjects).put("t", execution, 1.0)
    await site.commit(execution, queued(execution), writer="")
    await site.commit(execution, started(execution), writer="w1")
    assert (await doctor._overdue(later)).verdict == "FAIL"
    driven.append(f"t.{execution}")
    assert (await doctor._overdue(later)).verdict == "ok"
    pause = functools.partial(commands.request_pause, command_id="c", reason="", now=1.0)
    await site.log.request("t", execution, pause)
    assert (await doctor._overdue(later)).verdict == "ok"


@pytest.mark.usefixtures("services")
async def test_late_entries_of_logs_that_need_no_worker_or_a_newer_one(site):
    """An execution that has ended needs no worker; one of a newer version stands still."""
    doctor = Doctor(site.settings, site.client)
    facts = await doctor._facts()
    later = type(facts)(facts.account, facts.streams, facts.components, facts.now + 120)
    due = DueIndex(site.jetstream, site.subjects)
    ended, newer = new_execution_id(), new_execution_id()
    await site.commit(ended, queued(ended), started(ended), completed(ended), writer="w1")
    await due.put("t", ended, 1.0)
    assert (await doctor._overdue(later)).verdict == "ok"
    await site.commit(newer, queued(newer), started(newer), writer="w1")
    await site.jetstream.publish(site.subjects.log("t", newer), b"[]", {VERSION: "99"})
    await due.put("t", newer, 1.0)
    found = await doctor._overdue(later)
    assert found.verdict == "FAIL"
    assert f"1 executions, the first is t/{newer}" in found.detail


@pytest.mark.usefixtures("services")
async def test_a_missing_bucket_fails_and_says_what_to_run(site):
    await site.jetstream.api(f"STREAM.DELETE.KV_{site.subjects.stream(KEYS)}")
    found = (await examine(site))["topology"]
    assert found.verdict == "FAIL"
    assert "run `tailrace topology plan`" in found.detail
    await ensure(site.jetstream, topology(site.settings))
    assert (await examine(site))["topology"].verdict == "ok"


@pytest.mark.usefixtures("services")
async def test_dead_letters_are_a_warning(site):
    await site.jetstream.publish(site.subjects.dead("q"), b"{}")
    found = (await examine(site))["dead letters"]
    assert (found.verdict, found.detail) == ("warn", "1: see `tailrace dead ls`")


class _NodeIsDown:
    """Answers that a replica of each stream is offline, and counts the questions."""

    def __init__(self):
        self.asked = []

    async def api(self, action):
        self.asked.append(action)
        return {"cluster": {"leader": "n1", "replicas": [{"name": "n2", "offline": True}]}}


async def test_replicas_of_all_streams_are_asked_again_in_the_same_pause(site, monkeypatch):
    """A node that is down is behind in each of twenty streams; the doctor waits once."""
    pauses = []

    async def pause(seconds):
        pauses.append(seconds)

    monkeypatch.setattr("tailrace_shared.admin.doctor.asyncio.sleep", pause)
    doctor, jetstream = Doctor(site.settings, site.client), _NodeIsDown()
    monkeypatch.setattr(doctor, "_jetstream", jetstream)
    info = await jetstream.api("STREAM.INFO.A")
    problems = await doctor._lasting_problems({"A": info, "B": info})
    assert problems == ["A on n2 is offline", "B on n2 is offline"]
    assert sum(pauses) == 5
    assert jetstream.asked.count("STREAM.INFO.B") == len(pauses)


def test_an_absent_nats_is_reported_soon(capsys, monkeypatch):
    """An operator does not wait as long as a service that starts."""
    monkeypatch.setattr("tailrace_shared.admin.doctor._CONNECT_LIMIT_S", 0.2)
    assert main(["doctor"], {"NATS_URL": f"nats://127.0.0.1:{free_port()}"}) == 2
    message = capsys.readouterr().err
    assert "cannot reach NATS" in message
    assert "kubectl" not in message


def test_without_the_url_of_nats_the_error_says_where_to_run_the_command(capsys, monkeypatch):
    """NATS has no address outside of its cluster; the default is not meant there."""

    async def connect(*_):
        raise NatsUnreachableError("cannot reach NATS")

    monkeypatch.setattr("tailrace_shared.admin.doctor.command", connect)
    assert main(["doctor"], {}) == 2
    assert "kubectl exec deploy/tailrace-api" in capsys.readouterr().err


def test_a_setting_that_is_unknown_is_one_line_and_exit_code_2(capsys):
    assert main(["doctor"], {"TAILRACE_PREFXI": "x"}) == 2
    assert "did you mean TAILRACE_PREFIX" in capsys.readouterr().err
