"""Settings: one struct per service, read from the environment, documented from here.

A setting is a field; its environment variable is ``TAILRACE_`` and the field in capitals (except
``NATS_URL``, which keeps the name that the rest of the world uses). A variable with the prefix
that no struct knows stops the start: a typo must not silently become a default.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from tailrace_shared.duration import Duration

PREFIX: Final = "TAILRACE_"
UNPREFIXED: Final = {"nats_url": "NATS_URL"}
SECRET_PREFIX: Final = "TAILRACE_SECRET_"  # noqa: S105 - the beginning of names
"""What the variables of secrets begin with: they are no settings, and their names are free."""
POSITIVE: Final = {"positive": True}


class CommonSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of every service."""

    nats_url: Annotated[str, Meta(description="NATS server, or several separated by commas.")] = (
        "nats://127.0.0.1:4222"
    )
    nats_connect_timeout: Annotated[
        Duration,
        Meta(description="How long a start waits for NATS before it gives up.", extra=POSITIVE),
    ] = Duration(5)
    nats_replicas: Annotated[
        int, Meta(description="Copies of each stream and bucket: 1, 3 or 5.", ge=1, le=5)
    ] = 1
    prefix: Annotated[
        str,
        Meta(
            description="First token of all subjects; two installations may share a NATS.",
            # Not `$`, which would let a line break through.
            pattern=r"^[A-Za-z0-9_-]{1,64}\Z",
        ),
    ] = "tr"
    events_max_age: Annotated[
        Duration, Meta(description="How long the event log is kept; older ids get stream:reset.")
    ] = Duration(7 * 86400)
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least level to log.")
    ] = "info"
    log_format: Annotated[
        Literal["json", "console"], Meta(description="One JSON object a line, or text for people.")
    ] = "json"


class ApiSettings(CommonSettings, frozen=True, kw_only=True):
    """Settings of the API service."""

    host: Annotated[str, Meta(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(description="Port to listen on.", ge=0, le=65535)] = 8080
    processes: Annotated[
        int, Meta(description="API processes that share the port, on this machine.", ge=1, le=64)
    ] = 1
    auth: Annotated[
        Literal["none", "jwt"],
        Meta(description="Authentication; none serves a loopback address only."),
    ] = "none"
    auth_algorithm: Annotated[
        Literal["HS256", "RS256", "ES256", "EdDSA"],
        Meta(description="The only algorithm that a token may be signed with."),
    ] = "HS256"
    auth_secret: Annotated[
        str, Meta(description="Secret of HS256, 32 bytes at the least. A file keeps it better.")
    ] = ""
    auth_secret_file: Annotated[str, Meta(description="File that holds the secret.")] = ""
    auth_public_key: Annotated[
        str, Meta(description="Public key (PEM) of RS256, ES256 or EdDSA.")
    ] = ""
    auth_public_key_file: Annotated[str, Meta(description="File that holds the public key.")] = ""
    auth_jwks_url: Annotated[
        str,
        Meta(
            description="Where the issuer publishes its public keys, instead of a public key; "
            "https, or http on loopback."
        ),
    ] = ""
    auth_jwks_refresh: Annotated[
        Duration,
        Meta(description="Age at which the issuer's keys are fetched anew.", extra=POSITIVE),
    ] = Duration(300)
    auth_jwks_cooldown: Annotated[
        Duration,
        Meta(
            description="Least time between two fetches, however many tokens name unknown keys.",
            extra=POSITIVE,
        ),
    ] = Duration(15)
    auth_issuer: Annotated[
        str, Meta(description="The `iss` that tokens must have; empty: any.")
    ] = ""
    auth_audience: Annotated[
        str,
        Meta(description="The `aud` that tokens must have, one of these by commas; empty: any."),
    ] = ""
    auth_leeway: Annotated[
        Duration, Meta(description="By how much clocks may differ where a token's times count.")
    ] = Duration(10)
    ticket_lifetime: Annotated[
        Duration,
        Meta(description="How long a ticket opens its stream.", extra=POSITIVE),
    ] = Duration(60)
    open_metrics: Annotated[
        bool, Meta(description="Serve `/metrics` without a token, for a Prometheus that has none.")
    ] = False
    cors_origins: Annotated[
        str,
        Meta(
            description="Origins whose pages may call the API, by commas, for example "
            "`https://app.example.com`; `*`: all."
        ),
    ] = ""
    cors_credentials: Annotated[
        bool, Meta(description="Let those pages send cookies and the like; not together with `*`.")
    ] = False
    receive_timeout: Annotated[
        Duration,
        Meta(
            description="Time in which the head of a request, and then its body, must have come.",
            extra=POSITIVE,
        ),
    ] = Duration(30)
    allow_open_bind: Annotated[
        bool, Meta(description="Serve other addresses than loopback although TAILRACE_AUTH=none.")
    ] = False
    allowed_hosts: Annotated[
        str,
        Meta(
            description="Names, by commas, under which clients may call an API on a loopback "
            "address with TAILRACE_AUTH=none, beside those of loopback; `*`: any."
        ),
    ] = ""
    default_tenant: Annotated[
        str,
        Meta(
            description="Tenant of requests that name none, while TAILRACE_AUTH=none.",
            # Not `$`, which would let a line break through.
            pattern=r"^[A-Za-z0-9_-]{1,64}\Z",
        ),
    ] = "default"
    max_body_bytes: Annotated[int, Meta(description="Largest request body, in bytes.", ge=1024)] = (
        1024 * 1024
    )
    max_url_bytes: Annotated[
        int, Meta(description="Longest URL of a request, its query included, in bytes.", ge=1024)
    ] = 16 * 1024
    max_header_bytes: Annotated[
        int,
        Meta(description="Bytes of all headers of a request, of which it may have 100.", ge=1024),
    ] = 32 * 1024
    max_runs_per_minute: Annotated[
        int,
        Meta(
            description="Runs that a tenant may start within a minute, over all replicas; "
            "0: any number. Child runs and those of schedules do not count.",
            ge=0,
            le=10_000_000,
        ),
    ] = 0
    heartbeat: Annotated[
        Duration,
        Meta(description="Silence after which a stream carries a heartbeat.", extra=POSITIVE),
    ] = Duration(15)
    retry: Annotated[
        Duration,
        Meta(
            description="Reconnect delay told to SSE clients, jittered by a half.", extra=POSITIVE
        ),
    ] = Duration(2)
    lazy_interval: Annotated[
        Duration,
        Meta(description="How long changes may wait that a client does not see at once."),
    ] = Duration(2)
    context_bytes: Annotated[
        int, Meta(description="Memory for what streams know of executions, in bytes.", ge=4096)
    ] = 32 * 1024 * 1024
    ring_events: Annotated[
        int, Meta(description="Events that a live topic keeps for its slower clients.", ge=16)
    ] = 4096
    ring_bytes: Annotated[
        int, Meta(description="Bytes of frames that a live topic keeps.", ge=65536)
    ] = 4 * 1024 * 1024
    max_topic_bytes: Annotated[
        int,
        Meta(
            description="Bytes that all that is followed live, each set of topics once, may keep "
            "in one API process. Beyond, what nobody follows yet is told to come back later.",
            ge=1048576,
        ),
    ] = 512 * 1024 * 1024
    max_tenant_topic_bytes: Annotated[
        int,
        Meta(description="Bytes of them that may be one tenant's.", ge=1048576),
    ] = 256 * 1024 * 1024
    stall_timeout: Annotated[
        Duration,
        Meta(
            description="How long a stream's client may take nothing before it is cut.",
            extra=POSITIVE,
        ),
    ] = Duration(30)
    max_stream_age: Annotated[
        Duration,
        Meta(
            description="Age at which a stream is ended, give or take a quarter, so that new "
            "replicas get their share; 0s: never."
        ),
    ] = Duration(3600)
    max_streams: Annotated[int, Meta(description="Streams that one API process serves.", ge=1)] = (
        20_000
    )
    max_tenant_streams: Annotated[
        int, Meta(description="Streams of one tenant that one API process serves.", ge=1)
    ] = 15_000
    max_stream_topics: Annotated[
        int, Meta(description="Topics that one multiplexed stream may have.", ge=1, le=256)
    ] = 32
    max_replay_reads: Annotated[
        int,
        Meta(
            description="Reads of history that streams may wait for before new ones are told to "
            "come back later.",
            ge=1,
        ),
    ] = 512
    max_backlog_bytes: Annotated[
        int,
        Meta(description="Bytes that slow clients together may leave in this process.", ge=1048576),
    ] = 256 * 1024 * 1024
    send_buffer: Annotated[
        int,
        Meta(description="Send buffer (SO_SNDBUF) of a stream's socket, in bytes.", ge=4096),
    ] = 64 * 1024
    direct_writes: Annotated[
        bool,
        Meta(description="Write streams straight to their sockets; false: by plain ASGI."),
    ] = True
    drain_delay: Annotated[
        Duration,
        Meta(
            description="Time that a stopping API leaves to load balancers to notice, before it "
            "ends its streams."
        ),
    ] = Duration(0)
    drain_timeout: Annotated[
        Duration, Meta(description="Time in which a stopping API ends its streams.")
    ] = Duration(5)


class WorkerSettings(CommonSettings, frozen=True, kw_only=True):
    """Settings of the worker service."""

    nodes: Annotated[
        str, Meta(description="Python modules with user node types, separated by commas.")
    ] = ""
    worker_threads: Annotated[
        int, Meta(description="Jobs, and so executions, that one worker drives at once.", ge=1)
    ] = 64
    sync_threads: Annotated[
        int, Meta(description="Threads for synchronous node functions.", ge=1)
    ] = 32
    ack_wait: Annotated[
        Duration,
        Meta(description="Silence of a worker after which its jobs go to another.", extra=POSITIVE),
    ] = Duration(10)
    max_deliveries: Annotated[
        int, Meta(description="Deliveries of one job before it becomes a dead letter.", ge=1)
    ] = 20
    max_crashes: Annotated[
        int, Meta(description="Workers that one step may take down before it is failed.", ge=1)
    ] = 5
    drain_grace: Annotated[
        Duration, Meta(description="Time that running steps get to finish on SIGTERM.")
    ] = Duration(5)
    cancel_grace: Annotated[
        Duration,
        Meta(description="Time that running steps get to notice that they are cancelled."),
    ] = Duration(5)
    max_output_bytes: Annotated[
        int, Meta(description="Largest output of a step, in bytes of JSON.", ge=256 * 1024)
    ] = 16 * 1024 * 1024
    sweep_interval: Annotated[
        Duration,
        Meta(
            description="How often one of the workers looks for executions that nobody drives.",
            extra=POSITIVE,
        ),
    ] = Duration(20)
    metrics_host: Annotated[
        str, Meta(description="Address on which a worker serves its metrics and probes.")
    ] = "127.0.0.1"
    metrics_port: Annotated[
        int,
        Meta(
            description="Port of a worker's `/metrics`, `/healthz` and `/readyz`; 0: none.",
            ge=0,
            le=65535,
        ),
    ] = 0
    http_allow: Annotated[
        str,
        Meta(
            description="Networks (CIDR, by commas) that the http node may reach although they "
            "are loopback, link-local or private."
        ),
    ] = ""
    secrets_dir: Annotated[
        str,
        Meta(
            description="Folder of mounted secrets: `<tenant>/<name>` for one tenant, `<name>` for "
            "those of TAILRACE_SECRETS_TENANTS."
        ),
    ] = ""
    secrets_tenants: Annotated[
        str,
        Meta(
            description="Tenants, separated by commas, that may use shared secrets: the "
            "variables `TAILRACE_SECRET_<NAME>` and the files `<name>`; `*`: all tenants."
        ),
    ] = "default"


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the ``tailrace`` command."""

    url: Annotated[str, Meta(description="The API that client commands talk to.")] = (
        "http://127.0.0.1:8080"
    )
    token: Annotated[str, Meta(description="Bearer token of client commands.")] = ""
    organization: Annotated[
        str,
        Meta(description="Whose workflows; needed where the token holds several organisations."),
    ] = ""


SERVICES: Final[tuple[type[msgspec.Struct], ...]] = (ApiSettings, WorkerSettings, ClientSettings)


def variable(field: str) -> str:
    """Return the environment variable of a settings field."""
    return UNPREFIXED.get(field, PREFIX + field.upper())


def known_variables() -> set[str]:
    """Return every environment variable that some part of Tailrace reads."""
    return {variable(field) for struct in SERVICES for field in struct.__struct_fields__}
