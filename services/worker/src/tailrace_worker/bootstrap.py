"""The composition root: the one place that reads settings and puts the worker together."""

import os
from dataclasses import dataclass
from functools import partial

import dramatiq
from dramatiq.middleware import CurrentMessage, Middleware, MiddlewareError

from tailrace_shared.commands.run_input import InvalidInputError
from tailrace_shared.errors import InvalidIdError, StartupError, WorkflowNotFoundError
from tailrace_shared.nats.jobs import ADVANCE_ACTOR, EXECUTIONS_QUEUE, START_SCHEDULED_ACTOR
from tailrace_shared.process.settings_reader import read_settings
from tailrace_shared.process.telemetry import configure_logging
from tailrace_shared.redact.credentials import redact_credentials
from tailrace_shared.settings import WorkerSettings
from tailrace_worker.broker import NatsBroker
from tailrace_worker.engine.actors.actor_runner import ActorRunner
from tailrace_worker.engine.actors.scheduled_start import scheduled_start
from tailrace_worker.engine.engine import Engine
from tailrace_worker.engine.services.actor_job import actor_name
from tailrace_worker.nodes.registry import NodeRegistry, load_registry
from tailrace_worker.secrets.secret_store import SecretStore

_SOON_MS = 500
_LATEST_MS = 30_000
_MOST_STARTS = 20


class EngineMiddleware(Middleware):
    """Starts and stops the engine with Dramatiq's worker, whoever runs that."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def before_worker_boot(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Have the engine ready before the first job.

        Raises:
            MiddlewareError: it cannot start; any other exception Dramatiq would only log.
        """
        try:
            self.engine.start()
        except StartupError as error:
            raise MiddlewareError(str(error)) from error

    def before_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Have running jobs end, so that Dramatiq's threads come back."""
        self.engine.drain()

    def after_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Let go of NATS when nothing runs any more."""
        self.engine.stop()


class AttendantMiddleware(Middleware):
    """Has the actors of actor nodes begin after the engine, and end with it."""

    def __init__(self, attendant: ActorRunner) -> None:
        self.attendant = attendant

    def before_worker_boot(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Be ready before the first message."""
        self.attendant.start()

    def before_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Have running attempts end, so that Dramatiq's threads come back."""
        self.attendant.drain()


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """A worker, put together but not started."""

    settings: WorkerSettings
    broker: NatsBroker
    engine: Engine


def build() -> WorkerParts:
    """Put a worker together from the environment.

    Raises:
        StartupError: a setting or a module of nodes is not usable.
    """
    settings = read_settings(WorkerSettings)
    secrets = SecretStore(settings.secrets_dir, settings.secrets_tenants, os.environ)
    configure_logging(settings, "worker", lambda line: redact_credentials(secrets.redact(line)))
    registry = load_registry(settings.nodes, settings.http_allow)
    engine = Engine(settings, registry, secrets)
    attendant = ActorRunner(settings, lambda: engine.services)
    broker = NatsBroker(
        url=settings.nats_url,
        prefix=settings.prefix,
        replicas=settings.nats_replicas,
        ack_wait=settings.ack_wait,
        max_deliveries=settings.max_deliveries,
        # A job may take as long as an execution: none may wait here for a free thread.
        prefetch=settings.worker_threads,
    )
    broker.add_middleware(CurrentMessage())
    broker.add_middleware(EngineMiddleware(engine))
    broker.add_middleware(AttendantMiddleware(attendant))
    declare_actors(broker, engine)
    declare_actor_nodes(broker, registry, attendant)
    return WorkerParts(settings, broker, engine)


def declare_actors(broker: NatsBroker, engine: Engine) -> None:
    """Declare the actors that run the engine."""
    dramatiq.set_broker(broker)
    declare = partial(
        dramatiq.actor,
        queue_name=EXECUTIONS_QUEUE,
        broker=broker,
        min_backoff=_SOON_MS,
        max_backoff=_LATEST_MS,
    )
    # An execution may take days; its steps have time limits of their own.
    declare(actor_name=ADVANCE_ACTOR, time_limit=float("inf"))(engine.advance)
    declare(
        actor_name=START_SCHEDULED_ACTOR,
        max_retries=_MOST_STARTS,
        # No retry helps against these: the firing becomes a dead letter at once.
        throws=(WorkflowNotFoundError, InvalidInputError, InvalidIdError),
    )(scheduled_start(engine.start_run))


def declare_actor_nodes(broker: NatsBroker, registry: NodeRegistry, attendant: ActorRunner) -> None:
    """Declare an actor, on a queue of its own, for each actor node that this worker has."""
    for function in registry.actors:
        name = actor_name(function.type.name)
        declare = dramatiq.actor(
            actor_name=name,
            queue_name=name,
            broker=broker,
            min_backoff=_SOON_MS,
            max_backoff=_LATEST_MS,
            # Its steps have timeouts of their own.
            **{"time_limit": float("inf"), **function.actor_options},
        )
        declare(attendant.attend)
