"""Credentials and TLS of the connections to NATS."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from harness.nats.server import NatsServer
from harness.nats.trust import Certificates, Operator
from harness.processes.polling import until
from tailrace_shared.errors import StartupError
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.settings import CommonSettings

TOKEN = "a-token-of-some-length"


def token_configuration(token=TOKEN):
    return f'authorization {{ token: "{token}" }}\n'


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "certificates")


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "nats.token"
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.fixture
def folder_of_wrong_files(tmp_path: Path) -> Path:
    (tmp_path / "wrong").write_text("nothing\nof use\n")
    (tmp_path / "empty").write_text("")
    (tmp_path / "seed").write_text(
        "-----BEGIN NATS USER JWT-----\ne.e.e\n------END NATS USER JWT------\n"
        "-----BEGIN USER NKEY SEED-----\nSUNOSEED\n------END USER NKEY SEED------\n"
    )
    return tmp_path


@contextlib.asynccontextmanager
async def connection(server, **settings):
    client = await connect(CommonSettings(nats_url=server.url, **settings), "test")
    try:
        yield client
    finally:
        await client.close()


async def refusal(url, **settings):
    """Return the error of a connect that must fail long before its time limit."""
    async with asyncio.timeout(30):
        with pytest.raises(StartupError) as caught:
            await connect(CommonSettings(nats_url=url, **settings), "test")
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    return str(caught.value)


async def works(client):
    await JetStream(client).api("INFO")


async def until_connected(client, reconnects):
    async def has_reconnected():
        return client.is_connected and client.stats["reconnects"] >= reconnects

    await until(has_reconnected)


@pytest.mark.parametrize("place", ["file", "url"])
async def test_a_token_opens_a_connection(tmp_path, token_file, place):
    with NatsServer(tmp_path / "nats", configuration=token_configuration()) as server:
        if place == "file":
            settings = CommonSettings(nats_url=server.url, nats_token_file=str(token_file))
        else:
            settings = CommonSettings(nats_url=server.url.replace("//", f"//{TOKEN}@"))
        client = await connect(settings, "test")
        await works(client)
        assert TOKEN not in str(client.connected_url)
        await client.close()


async def test_a_user_and_password_in_the_url_are_decoded(tmp_path):
    user = 'authorization { user: "me@here", password: "p/w:1" }\n'
    with NatsServer(tmp_path, configuration=user) as server:
        url = server.url.replace("//", "//me%40here:p%2Fw%3A1@")
        client = await connect(CommonSettings(nats_url=url), "test")
        await works(client)
        await client.close()


@pytest.mark.parametrize("wrong", ["", "me:secret-word@", "secret-word@"])
async def test_wrong_credentials_are_refused_soon_and_name_the_settings(tmp_path, wrong):
    with NatsServer(tmp_path, configuration=token_configuration()) as server:
        message = await refusal(server.url.replace("//", f"//{wrong}"))
    assert message.startswith(f"NATS at {server.url} refused the connection: ")
    assert "TAILRACE_NATS_CREDS_FILE" in message
    assert "TAILRACE_NATS_TOKEN_FILE" in message
    assert "secret-word" not in message


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"nats_creds_file": "missing"}, "TAILRACE_NATS_CREDS_FILE=missing: cannot be read"),
        ({"nats_token_file": "missing"}, "TAILRACE_NATS_TOKEN_FILE=missing: cannot be read"),
        ({"nats_ca_file": "missing"}, "TAILRACE_NATS_CA_FILE=missing: cannot be read"),
        ({"nats_cert_file": "missing"}, "TAILRACE_NATS_CERT_FILE=missing: cannot be read"),
        ({"nats_key_file": "missing"}, "TAILRACE_NATS_KEY_FILE needs TAILRACE_NATS_CERT_FILE"),
        ({"nats_creds_file": "wrong"}, "TAILRACE_NATS_CREDS_FILE=wrong: it does not contain"),
        ({"nats_creds_file": "seed"}, "TAILRACE_NATS_CREDS_FILE=seed: its NKey seed is invalid"),
        ({"nats_token_file": "wrong"}, "TAILRACE_NATS_TOKEN_FILE=wrong: it does not contain"),
        ({"nats_token_file": "empty"}, "TAILRACE_NATS_TOKEN_FILE=empty: it does not contain"),
        ({"nats_ca_file": "wrong"}, "TAILRACE_NATS_CA_FILE=wrong: it does not contain"),
        ({"nats_ca_file": "empty"}, "TAILRACE_NATS_CA_FILE=empty: it does not contain"),
        ({"nats_cert_file": "wrong"}, "TAILRACE_NATS_CERT_FILE=wrong: "),
        (
            {"nats_creds_file": "seed", "nats_token_file": "wrong"},
            "TAILRACE_NATS_CREDS_FILE and TAILRACE_NATS_TOKEN_FILE both have credentials",
        ),
        (
            {"nats_url": "nats://a:b@127.0.0.1:1", "nats_token_file": "wrong"},
            "TAILRACE_NATS_TOKEN_FILE and NATS_URL both have credentials",
        ),
    ],
)
async def test_a_missing_or_wrong_file_names_its_setting(
    folder_of_wrong_files, monkeypatch, settings, said
):
    """At once, without a connect."""
    monkeypatch.chdir(folder_of_wrong_files)
    url = settings.pop("nats_url", "nats://127.0.0.1:1")
    assert said in await refusal(url, **settings)


async def test_a_key_that_does_not_fit_its_certificate_is_named(tmp_path, certificates):
    other = Certificates(tmp_path / "other")
    settings = certificates.settings() | {"nats_key_file": str(other.client_key)}
    message = await refusal("nats://127.0.0.1:1", **settings)
    assert message == f"TAILRACE_NATS_KEY_FILE={other.client_key}: not the key of the certificate"


async def test_an_encrypted_key_does_not_ask_at_the_terminal(certificates):
    certificates.encrypt_key()
    message = await refusal("nats://127.0.0.1:1", **certificates.settings())
    key = certificates.client_key
    assert message == f"TAILRACE_NATS_KEY_FILE={key}: it must not be encrypted"


async def test_mutual_tls(tmp_path, certificates):
    with NatsServer(tmp_path / "nats", configuration=certificates.configuration()) as server:
        async with connection(server, **certificates.settings()) as client:
            await works(client)
        without_ca = await refusal(server.url)
        ca_only = await refusal(server.url, nats_ca_file=str(certificates.ca))
        other = Certificates(tmp_path / "other")
        stranger = await refusal(server.url, **other.settings())
    assert "check TAILRACE_NATS_CA_FILE" in without_ca
    assert "check TAILRACE_NATS_CERT_FILE" in ca_only
    assert "check TAILRACE_NATS_CA_FILE" in stranger


@pytest.mark.parametrize("scheme", ["nats", "tls"])
async def test_nothing_is_sent_to_a_server_that_does_not_offer_tls(
    certificates, token_file, scheme
):
    """An attacker on the way could remove the offer from the server's greeting."""
    received = bytearray()

    async def serve(reader, writer):
        writer.write(
            b'INFO {"server_id":"x","version":"2.15.0","auth_required":true,"proto":1}\r\n'
        )
        with contextlib.suppress(OSError):
            received.extend(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    tls = {"nats_ca_file": str(certificates.ca)} if scheme == "nats" else {}
    message = await refusal(url, nats_token_file=str(token_file), **tls)
    server.close()
    assert "does not offer TLS" in message
    assert not received


async def test_rotated_token_and_certificates_are_used_at_the_reconnect(
    tmp_path, certificates, token_file
):
    """The server reloads and drops the clients of the old token."""
    configuration = certificates.configuration() + token_configuration()
    with NatsServer(tmp_path / "nats", configuration=configuration) as server:
        settings = {**certificates.settings(), "nats_token_file": str(token_file)}
        async with connection(server, **settings) as client:
            certificates.renew()
            token_file.write_text("another-token\n")
            server.reload(certificates.configuration() + token_configuration("another-token"))
            await until_connected(client, 1)
            await works(client)
        async with connection(server, **settings) as client:
            await works(client)


async def test_a_revoked_user_is_replaced_by_that_of_the_new_file(tmp_path):
    """Also if the new file comes after the server has refused the old one."""
    operator, creds = Operator(), tmp_path / "user.creds"
    operator.write_user(creds)
    with NatsServer(tmp_path / "nats", configuration=operator.configuration()) as server:
        settings = CommonSettings(nats_url=server.url, nats_creds_file=str(creds))
        disconnected = asyncio.Event()

        async def note():
            disconnected.set()

        client = await connect(settings, "test", disconnected_cb=note)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(client.close)
            await works(client)
            old = tmp_path / "old.creds"
            old.write_bytes(creds.read_bytes())
            operator.write_user(creds)
            creds.rename(tmp_path / "new.creds")
            server.reload(operator.configuration())
            await asyncio.wait_for(disconnected.wait(), 60)
            (tmp_path / "new.creds").rename(creds)
            await until_connected(client, 1)
            await works(client)
        message = await refusal(server.url, nats_creds_file=str(old))
    assert "TAILRACE_NATS_CREDS_FILE" in message
