"""The settings of every service, one struct each.

Each field is one setting. Its environment variable is ``TAILRACE_`` plus the field name in
capitals, except for ``NATS_URL``, which keeps its common name. ``process.settings_reader`` reads
them, and the page docs/configuration.md is generated from the descriptions.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from tailrace_shared.duration import Duration

PREFIX: Final = "TAILRACE_"
UNPREFIXED: Final = {"nats_url": "NATS_URL"}
SECRET_PREFIX: Final = "TAILRACE_SECRET_"  # noqa: S105 - a prefix, not a secret
"""Prefix of the variables of secrets. They are not settings, and operators choose their names."""
POSITIVE: Final = {"positive": True}
"""Marks a duration that must not be zero."""


class CommonSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the API and the worker."""

    nats_url: Annotated[
        str,
        Meta(
            description="URL of the NATS server. Separate several servers with commas. `tls://` "
            "requires TLS. May contain a user and password, or a token."
        ),
    ] = "nats://127.0.0.1:4222"
    nats_creds_file: Annotated[
        str,
        Meta(
            description="File with the credentials of a NATS user (`.creds`: a JWT and an NKey "
            "seed). It is read again at every reconnect."
        ),
    ] = ""
    nats_token_file: Annotated[
        str,
        Meta(
            description="File with a NATS token. It is read again at every reconnect. "
            "`tailrace up` keeps that of its NATS in `nats.token` of its data folder."
        ),
    ] = ""
    nats_ca_file: Annotated[
        str,
        Meta(
            description="Certificates (PEM) of the authorities that sign those of NATS servers. "
            "Requires TLS. Read again at every reconnect."
        ),
    ] = ""
    nats_cert_file: Annotated[
        str,
        Meta(
            description="Client certificate (PEM) for NATS servers that verify clients. Requires "
            "TLS. Read again at every reconnect."
        ),
    ] = ""
    nats_key_file: Annotated[
        str,
        Meta(
            description="Private key (PEM) of the client certificate, not encrypted. Empty if "
            "the certificate's file contains it. Read again at every reconnect."
        ),
    ] = ""
    nats_connect_timeout: Annotated[
        Duration,
        Meta(
            description="Time that a service waits at startup for NATS, and for its cluster to be "
            "ready, before it exits with an error. Until then it is live but not ready.",
            extra=POSITIVE,
        ),
    ] = Duration(60)
    nats_replicas: Annotated[
        int,
        Meta(description="Number of replicas of each stream and bucket: 1, 3 or 5.", ge=1, le=5),
    ] = 1
    max_store_bytes: Annotated[
        int,
        Meta(
            description="Space that all streams and buckets may take in NATS, in bytes, for each "
            "replica. Each has a fixed share; a full one refuses messages. `tailrace topology "
            "apply` applies a change. 0 sets no limit but that of NATS.",
            ge=0,
        ),
    ] = 16 * 1024**3
    prefix: Annotated[
        str,
        Meta(
            description="First token of every NATS subject. Use different prefixes to run "
            "several installations on one NATS.",
            # `\Z`, because `$` would accept a trailing line break.
            pattern=r"^[A-Za-z0-9_-]{1,64}\Z",
        ),
    ] = "tr"
    events_max_age: Annotated[
        Duration,
        Meta(
            description="How long an execution is kept after its end. A client that resumes from "
            "an older id receives `stream:reset`."
        ),
    ] = Duration(7 * 86400)
    max_live_runs: Annotated[
        int,
        Meta(
            description="Maximum number of runs of one organization that have not ended. Further "
            "starts are refused with 429; a step that starts a run fails.",
            ge=1,
        ),
    ] = 20_000
    max_descendants: Annotated[
        int,
        Meta(
            description="Maximum number of runs that one run may start by steps of the type "
            "`workflow`, at any depth. A step that starts another one fails.",
            ge=1,
        ),
    ] = 10_000
    max_run_depth: Annotated[
        int,
        Meta(
            description="How deep runs that are started by runs may be nested. A step that starts "
            "a deeper one fails.",
            ge=1,
            le=100,
        ),
    ] = 16
    expression_budget: Annotated[
        int,
        Meta(
            description="Maximum cost of the expressions of one template, such as the `with` of a "
            "node, in steps of about a microsecond. A step that exceeds it fails. Evaluations "
            "block all other work of their process for as long.",
            ge=1000,
        ),
    ] = 10_000
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Minimum severity of log messages."),
    ] = "info"
    log_format: Annotated[
        Literal["json", "console"],
        Meta(description="Log output: one JSON object per line, or text for terminals."),
    ] = "json"


class ApiSettings(CommonSettings, frozen=True, kw_only=True):
    """Settings of the API service."""

    host: Annotated[str, Meta(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[
        int, Meta(description="TCP port to listen on. 0 picks a free port.", ge=0, le=65535)
    ] = 8080
    internal_host: Annotated[str, Meta(description="Address of the internal port.")] = "127.0.0.1"
    internal_port: Annotated[
        int,
        Meta(
            description="Port for `/healthz`, `/readyz` and, without a token, `/metrics`. The "
            "public port then has no `/metrics`. Requires `TAILRACE_PROCESSES=1`. 0 serves "
            "them on the public port.",
            ge=0,
            le=65535,
        ),
    ] = 0
    processes: Annotated[
        int,
        Meta(
            description="Number of API processes on this machine that share the port.", ge=1, le=64
        ),
    ] = 1
    auth: Annotated[
        Literal["none", "jwt"],
        Meta(
            description="Authentication of requests. `none` is accepted on loopback addresses "
            "only, unless `TAILRACE_ALLOW_OPEN_BIND` is true."
        ),
    ] = "none"
    auth_algorithm: Annotated[
        Literal["HS256", "RS256", "ES256", "EdDSA"],
        Meta(description="The only accepted signature algorithm of tokens."),
    ] = "HS256"
    auth_secret: Annotated[
        str, Meta(description="Shared secret for HS256, at least 32 bytes. Prefer a file.")
    ] = ""
    auth_secret_file: Annotated[str, Meta(description="File that contains the shared secret.")] = ""
    auth_public_key: Annotated[
        str, Meta(description="Public key (PEM) for RS256, ES256 or EdDSA.")
    ] = ""
    auth_public_key_file: Annotated[str, Meta(description="File that contains the public key.")] = (
        ""
    )
    auth_jwks_url: Annotated[
        str,
        Meta(
            description="URL of the issuer's key set (JWKS), as an alternative to a public key. "
            "Must be https, or http on loopback."
        ),
    ] = ""
    auth_jwks_refresh: Annotated[
        Duration,
        Meta(description="Age at which the cached key set is fetched again.", extra=POSITIVE),
    ] = Duration(300)
    auth_jwks_cooldown: Annotated[
        Duration,
        Meta(
            description="Minimum time between two fetches of the key set, even if tokens name "
            "unknown keys.",
            extra=POSITIVE,
        ),
    ] = Duration(15)
    auth_issuer: Annotated[
        str, Meta(description="Required `iss` claim of tokens. Empty accepts any issuer.")
    ] = ""
    auth_audience: Annotated[
        str,
        Meta(
            description="Accepted `aud` claims of tokens, separated by commas. Empty accepts "
            "any audience."
        ),
    ] = ""
    auth_leeway: Annotated[
        Duration,
        Meta(description="Tolerated clock difference when the time claims of a token are checked."),
    ] = Duration(10)
    ticket_lifetime: Annotated[
        Duration,
        Meta(description="Time within which a ticket can open its stream.", extra=POSITIVE),
    ] = Duration(60)
    open_metrics: Annotated[
        bool,
        Meta(
            description="Serve `/metrics` without a token, for a Prometheus server that cannot "
            "send one."
        ),
    ] = False
    cors_origins: Annotated[
        str,
        Meta(
            description="Origins whose pages may call the API, separated by commas, for example "
            "`https://app.example.com`. `*` allows all origins."
        ),
    ] = ""
    cors_credentials: Annotated[
        bool,
        Meta(
            description="Allow pages from these origins to send cookies. Cannot be combined "
            "with `*`."
        ),
    ] = False
    receive_timeout: Annotated[
        Duration,
        Meta(
            description="Time limit for receiving the header of a request, and again for its body.",
            extra=POSITIVE,
        ),
    ] = Duration(30)
    allow_open_bind: Annotated[
        bool, Meta(description="Allow a non-loopback address although `TAILRACE_AUTH=none`.")
    ] = False
    allowed_hosts: Annotated[
        str,
        Meta(
            description="Additional host names for requests to a loopback address while "
            "`TAILRACE_AUTH=none`, separated by commas. `*` allows any name."
        ),
    ] = ""
    default_tenant: Annotated[
        str,
        Meta(
            description="Tenant of requests that name none while `TAILRACE_AUTH=none`.",
            # `\Z`, because `$` would accept a trailing line break.
            pattern=r"^[A-Za-z0-9_-]{1,64}\Z",
        ),
    ] = "default"
    max_body_bytes: Annotated[
        int, Meta(description="Maximum size of a request body, in bytes.", ge=1024)
    ] = 1024 * 1024
    max_pending_body_bytes: Annotated[
        int,
        Meta(
            description="Memory limit for all request bodies that one API process is receiving or "
            "processing, in bytes. Beyond it, requests are refused with `503`.",
            ge=1048576,
        ),
    ] = 64 * 1024 * 1024
    max_tenant_pending_body_bytes: Annotated[
        int,
        Meta(
            description="The same for the requests of one tenant. Beyond it, they are refused "
            "with `429`.",
            ge=1048576,
        ),
    ] = 16 * 1024 * 1024
    max_tenant_requests: Annotated[
        int,
        Meta(
            description="Number of requests of one tenant that one API process answers at a time. "
            "Further ones wait for their turn; an open stream counts until it has begun.",
            ge=1,
        ),
    ] = 16
    max_tenant_waiting_requests: Annotated[
        int,
        Meta(
            description="Number of requests of one tenant that may wait for their turn in one API "
            "process. Further ones are refused with `429`, streams with a later reconnect.",
            ge=1,
        ),
    ] = 2_000
    max_url_bytes: Annotated[
        int,
        Meta(description="Maximum length of a request URL including its query, in bytes.", ge=1024),
    ] = 16 * 1024
    max_header_bytes: Annotated[
        int,
        Meta(
            description="Maximum total size of the headers of a request, in bytes. The number "
            "of headers is limited to 100.",
            ge=1024,
        ),
    ] = 32 * 1024
    max_runs_per_minute: Annotated[
        int,
        Meta(
            description="Maximum number of runs that a tenant may start per minute, across all "
            "API replicas. Child runs and scheduled runs do not count. 0 disables "
            "the limit.",
            ge=0,
            le=10_000_000,
        ),
    ] = 0
    max_messages_per_minute: Annotated[
        int,
        Meta(
            description="Maximum number of messages that a tenant may publish to its feed per "
            "minute, across all API replicas. 0 disables the limit.",
            ge=0,
            le=10_000_000,
        ),
    ] = 600
    heartbeat: Annotated[
        Duration,
        Meta(description="Idle time after which a stream sends a heartbeat.", extra=POSITIVE),
    ] = Duration(15)
    retry: Annotated[
        Duration,
        Meta(
            description="Reconnect delay sent to SSE clients in the `retry:` field, with 50 % "
            "jitter.",
            extra=POSITIVE,
        ),
    ] = Duration(2)
    delivery_interval: Annotated[
        Duration,
        Meta(
            description="Time for which a replica may gather what NATS delivers before it sends "
            "it on. The default sends at once. `180ms` delays events by up to 180 ms, and costs a "
            "third of the CPU time where some events a second go to clients of different topics. "
            "Nothing waits for more than 1.5 s, or while the replica requests anything of NATS.",
        ),
    ] = Duration(0)
    lazy_interval: Annotated[
        Duration,
        Meta(
            description="Maximum delay of updates that are not visible to the client at once. "
            "They are sent with the next visible event."
        ),
    ] = Duration(2)
    context_bytes: Annotated[
        int,
        Meta(
            description="Memory limit for cached execution metadata of tenant streams, in bytes.",
            ge=4096,
        ),
    ] = 32 * 1024 * 1024
    ring_events: Annotated[
        int,
        Meta(
            description="Number of recent events that a live topic buffers for slower clients.",
            ge=16,
        ),
    ] = 4096
    ring_bytes: Annotated[
        int, Meta(description="Size of the buffer of a live topic, in bytes.", ge=65536)
    ] = 4 * 1024 * 1024
    max_topic_bytes: Annotated[
        int,
        Meta(
            description="Memory limit for all live topics in one API process, in bytes. Beyond "
            "it, streams of new topics get `stream:refused` with `topics_full` and a `retry:`.",
            ge=1048576,
        ),
    ] = 512 * 1024 * 1024
    max_tenant_topic_bytes: Annotated[
        int,
        Meta(
            description="Memory limit for the live topics of one tenant in one API process, in "
            "bytes.",
            ge=1048576,
        ),
    ] = 256 * 1024 * 1024
    stall_timeout: Annotated[
        Duration,
        Meta(
            description="Time after which a client that reads nothing is disconnected.",
            extra=POSITIVE,
        ),
    ] = Duration(30)
    max_stream_age: Annotated[
        Duration,
        Meta(
            description="Maximum age of a stream, with 25 % jitter. Reconnecting clients spread "
            "over new replicas. `0s` disables the limit."
        ),
    ] = Duration(3600)
    max_streams: Annotated[
        int, Meta(description="Maximum number of open streams per API process.", ge=1)
    ] = 20_000
    max_tenant_streams: Annotated[
        int, Meta(description="Maximum number of open streams of one tenant per API process.", ge=1)
    ] = 15_000
    max_stream_topics: Annotated[
        int, Meta(description="Maximum number of topics in one multiplexed stream.", ge=1, le=256)
    ] = 32
    max_replay_reads: Annotated[
        int,
        Meta(
            description="Maximum number of queued history reads. Beyond it, new streams get "
            "`stream:refused` with `busy` and a `retry:`.",
            ge=1,
        ),
    ] = 512
    max_backlog_bytes: Annotated[
        int,
        Meta(
            description="Memory limit for unsent data of all slow clients in one API process, "
            "in bytes.",
            ge=1048576,
        ),
    ] = 256 * 1024 * 1024
    send_buffer: Annotated[
        int,
        Meta(description="Send buffer of a stream's socket (`SO_SNDBUF`), in bytes.", ge=4096),
    ] = 64 * 1024
    direct_writes: Annotated[
        bool,
        Meta(
            description="Write stream data directly to the sockets. `false` sends it through ASGI."
        ),
    ] = True
    drain_delay: Annotated[
        Duration,
        Meta(
            description="Time between the failing readiness probe and the end of streams on "
            "shutdown, for load balancers to notice."
        ),
    ] = Duration(0)
    drain_timeout: Annotated[
        Duration, Meta(description="Time over which open streams are closed on shutdown.")
    ] = Duration(5)


class WorkerSettings(CommonSettings, frozen=True, kw_only=True):
    """Settings of the worker service."""

    nodes: Annotated[
        str, Meta(description="Python modules with custom node types, separated by commas.")
    ] = ""
    worker_threads: Annotated[
        int,
        Meta(
            description="Maximum number of jobs, and so of executions, that one worker drives "
            "at a time.",
            ge=1,
        ),
    ] = 64
    sync_threads: Annotated[
        int, Meta(description="Number of threads for synchronous node functions.", ge=1)
    ] = 32
    ack_wait: Annotated[
        Duration,
        Meta(
            description="Time without a heartbeat after which the jobs of a worker are "
            "redelivered.",
            extra=POSITIVE,
        ),
    ] = Duration(10)
    max_deliveries: Annotated[
        int,
        Meta(
            description="Maximum number of deliveries of a job before it becomes a dead letter.",
            ge=1,
        ),
    ] = 20
    max_crashes: Annotated[
        int,
        Meta(description="Maximum number of workers that a step may crash before it fails.", ge=1),
    ] = 5
    drain_grace: Annotated[
        Duration, Meta(description="Time for running steps to finish after SIGTERM.")
    ] = Duration(5)
    cancel_grace: Annotated[
        Duration,
        Meta(description="Time for running steps to stop after they are cancelled."),
    ] = Duration(5)
    max_output_bytes: Annotated[
        int, Meta(description="Maximum size of a step's output, in bytes of JSON.", ge=256 * 1024)
    ] = 16 * 1024 * 1024
    max_pending_output_bytes: Annotated[
        int,
        Meta(
            description="Memory limit for all outputs over 256 KiB that one worker holds: those "
            "that are being stored, and those that expressions of running executions name. In "
            "bytes of JSON. A step beyond it fails.",
            ge=1048576,
        ),
    ] = 512 * 1024 * 1024
    max_tenant_pending_output_bytes: Annotated[
        int, Meta(description="The same for the outputs of one tenant.", ge=1048576)
    ] = 256 * 1024 * 1024
    catch_up_window: Annotated[
        Duration,
        Meta(
            description="How far back firings of schedules are made up that were missed while "
            "NATS was down. 0 makes up none."
        ),
    ] = Duration(0)
    sweep_interval: Annotated[
        Duration,
        Meta(
            description="Interval at which the sweeper looks for executions that no worker drives.",
            extra=POSITIVE,
        ),
    ] = Duration(20)
    metrics_host: Annotated[
        str, Meta(description="Address of the worker's metrics and probes.")
    ] = "127.0.0.1"
    metrics_port: Annotated[
        int,
        Meta(
            description="Port of the worker's `/metrics`, `/healthz` and `/readyz`. 0 disables "
            "them.",
            ge=0,
            le=65535,
        ),
    ] = 0
    http_allow: Annotated[
        str,
        Meta(
            description="Loopback, link-local or private networks that the http node may reach, "
            "in CIDR notation, separated by commas."
        ),
    ] = ""
    http_connections: Annotated[
        int,
        Meta(
            description="Maximum number of connections of the http node in one worker. A tenant "
            "may hold as many as are free, so at most half of them; further requests wait.",
            ge=2,
        ),
    ] = 200
    http_timeout: Annotated[
        Duration,
        Meta(
            description="Time within which the http node must receive a complete response. A "
            "shorter `timeout` of the step applies, too. So do 10 s for the connection, and 30 s "
            "without a byte.",
            extra=POSITIVE,
        ),
    ] = Duration(300)
    secrets_dir: Annotated[
        str,
        Meta(
            description="Directory of mounted secrets: `<tenant>/<name>` for one tenant, "
            "`<name>` for the tenants in `TAILRACE_SECRETS_TENANTS`."
        ),
    ] = ""
    secrets_tenants: Annotated[
        str,
        Meta(
            description="Tenants that may use shared secrets, separated by commas. Shared "
            "secrets are the variables `TAILRACE_SECRET_<NAME>` and the files "
            "`<name>`. `*` allows all tenants."
        ),
    ] = "default"


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the ``tailrace`` command."""

    url: Annotated[str, Meta(description="URL of the API.")] = "http://127.0.0.1:8080"
    token: Annotated[str, Meta(description="Bearer token for requests to the API.")] = ""
    organization: Annotated[
        str,
        Meta(
            description="Tenant to work with. Required if the token contains several organizations."
        ),
    ] = ""
    profile: Annotated[
        str, Meta(description="Profile of the configuration file, if no URL is set.")
    ] = ""
    config: Annotated[
        str,
        Meta(
            description="Configuration file with profiles; empty for `tailrace/config.toml` in "
            "`XDG_CONFIG_HOME`."
        ),
    ] = ""


SERVICES: Final[tuple[type[msgspec.Struct], ...]] = (ApiSettings, WorkerSettings, ClientSettings)


def variable(field: str) -> str:
    return UNPREFIXED.get(field, PREFIX + field.upper())


def known_variables() -> set[str]:
    return {variable(field) for struct in SERVICES for field in struct.__struct_fields__}
