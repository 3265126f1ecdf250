"""The composition root of the worker: read the settings and construct its parts."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import dramatiq
from dramatiq.middleware import CurrentMessage, Middleware, MiddlewareError

from tailrace_shared.commands.run_input import InvalidInputError
from tailrace_shared.errors import (
    InvalidIdError,
    StartupError,
    TooManyLiveRunsError,
    WorkflowNotFoundError,
)
from tailrace_shared.nats.jobs import (
    ADVANCE_ACTOR,
    DELIVER_TRIGGER_ACTOR,
    EXECUTIONS_QUEUE,
    START_SCHEDULED_ACTOR,
    TRACEPARENT,
    TRIGGERS_QUEUE,
)
from tailrace_shared.process.settings_reader import read_settings, warn_of_service_links
from tailrace_shared.process.telemetry import configure_logging
from tailrace_shared.process.tracing import Tracing, start_tracing
from tailrace_shared.redact.credentials import redact_credentials
from tailrace_shared.settings import WorkerSettings
from tailrace_worker.broker import NatsBroker
from tailrace_worker.broker.message import NatsMessage
from tailrace_worker.engine.actors.actor_runner import ActorRunner
from tailrace_worker.engine.actors.scheduled_start import scheduled_start
from tailrace_worker.engine.engine import Engine
from tailrace_worker.engine.services.actor_job import actor_name
from tailrace_worker.nodes.http import HttpLimits
from tailrace_worker.nodes.registry import NodeRegistry, load_registry
from tailrace_worker.secrets.secret_store import SecretStore

_MIN_BACKOFF_MS = 500
_MAX_BACKOFF_MS = 30_000
_MAX_START_RETRIES = 20


class EngineMiddleware(Middleware):
    """Starts and stops the engine with Dramatiq's worker."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def before_worker_boot(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Start the engine before the first job.

        Raises:
            MiddlewareError: the engine cannot start. Dramatiq only logs other exceptions.
        """
        try:
            self.engine.start()
        except StartupError as error:
            raise MiddlewareError(str(error)) from error

    def before_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """End running jobs, so that Dramatiq's threads become free."""
        self.engine.drain()

    def after_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Close the engine's connection to NATS when no job runs any more."""
        self.engine.stop()


class ActorRunnerMiddleware(Middleware):
    """Starts the runner of actor nodes after the engine, and drains it with the engine."""

    def __init__(self, actor_runner: ActorRunner) -> None:
        self.actor_runner = actor_runner

    def before_worker_boot(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Start the runner before the first message."""
        self.actor_runner.start()

    def before_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """End running attempts, so that Dramatiq's threads become free."""
        self.actor_runner.drain()


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """The parts of a worker that has not been started."""

    settings: WorkerSettings
    broker: NatsBroker
    engine: Engine
    tracing: Tracing | None


def build() -> WorkerParts:
    """Construct a worker from the environment.

    Raises:
        StartupError: a setting is invalid, or a module of nodes cannot be loaded.
    """
    settings = read_settings(WorkerSettings)
    secrets = SecretStore(settings.secrets_dir, settings.secrets_tenants, os.environ)

    def redact(text: str) -> str:
        return redact_credentials(secrets.redact(text))

    configure_logging(settings, "worker", redact)
    tracing = start_tracing("worker", redact)
    warn_of_service_links()
    http = HttpLimits(settings.http_allow, settings.http_connections, settings.http_timeout)
    registry = load_registry(settings.nodes, http)
    engine = Engine(settings, registry, secrets, tracing)
    actor_runner = ActorRunner(settings, lambda: engine.services)
    broker = NatsBroker(
        url=settings.nats_url,
        creds_file=settings.nats_creds_file,
        token_file=settings.nats_token_file,
        ca_file=settings.nats_ca_file,
        cert_file=settings.nats_cert_file,
        key_file=settings.nats_key_file,
        prefix=settings.prefix,
        replicas=settings.nats_replicas,
        max_store_bytes=settings.max_store_bytes,
        ack_wait=settings.ack_wait,
        max_deliveries=settings.max_deliveries,
        connect_timeout=settings.nats_connect_timeout,
        # A job may take as long as an execution, so none may wait here for a free thread.
        prefetch=settings.worker_threads,
        gates={EXECUTIONS_QUEUE: engine.gate},
    )
    broker.add_middleware(CurrentMessage())
    broker.add_middleware(EngineMiddleware(engine))
    broker.add_middleware(ActorRunnerMiddleware(actor_runner))
    declare_actors(broker, engine)
    declare_actor_nodes(broker, registry, actor_runner)
    return WorkerParts(settings, broker, engine, tracing)


def declare_actors(broker: NatsBroker, engine: Engine) -> None:
    dramatiq.set_broker(broker)
    declare = partial(
        dramatiq.actor,
        queue_name=EXECUTIONS_QUEUE,
        broker=broker,
        min_backoff=_MIN_BACKOFF_MS,
        max_backoff=_MAX_BACKOFF_MS,
    )
    # An execution may take days; its steps have timeouts.
    declare(actor_name=ADVANCE_ACTOR, time_limit=float("inf"))(_advance(engine))
    declare(actor_name=DELIVER_TRIGGER_ACTOR, queue_name=TRIGGERS_QUEUE, time_limit=float("inf"))(
        engine.deliver_trigger
    )
    declare(
        actor_name=START_SCHEDULED_ACTOR,
        max_retries=_MAX_START_RETRIES,
        # The firing becomes a dead letter at once: a retry cannot help, or retries would pile up.
        throws=(WorkflowNotFoundError, InvalidInputError, InvalidIdError, TooManyLiveRunsError),
    )(scheduled_start(engine.start_run))


def _advance(engine: Engine) -> Callable[[str, str], None]:
    """Return the actor function that drives an execution."""

    def advance(tenant: str, execution: str) -> None:
        # Dramatiq declares a message, but gives what the broker made of it.
        message: Any = CurrentMessage.get_current_message()
        is_first = isinstance(message, NatsMessage) and message.deliveries == 1
        engine.advance(
            tenant,
            execution,
            message.stored_at if is_first else None,
            "" if message is None else message.options.get(TRACEPARENT, ""),
        )

    return advance


def declare_actor_nodes(
    broker: NatsBroker, registry: NodeRegistry, actor_runner: ActorRunner
) -> None:
    """Declare an actor with a queue of its own for each actor node of this worker."""
    for function in registry.actors:
        name = actor_name(function.type.name)
        declare = dramatiq.actor(
            actor_name=name,
            queue_name=name,
            broker=broker,
            min_backoff=_MIN_BACKOFF_MS,
            max_backoff=_MAX_BACKOFF_MS,
            # Its steps have timeouts.
            **{"time_limit": float("inf"), **function.actor_options},
        )
        declare(actor_runner.run_attempt)
