"""The actor that a schedule's firing runs: it starts one run, however often it is delivered."""

from collections.abc import Callable

from dramatiq.middleware import CurrentMessage

from tailrace_shared.commands.run_starter import RunRequest
from tailrace_shared.nats.jobs import RUN_INPUT
from tailrace_worker.engine.engine import Engine


def scheduled_start(engine: Engine) -> Callable[[str, str, str, str], None]:
    """Return the function of the actor, for an engine."""

    def start_scheduled(tenant: str, workflow_id: str, schedule_id: str, token: str) -> None:
        message = CurrentMessage.get_current_message()
        if message is None:
            raise RuntimeError("the middleware CurrentMessage is missing")
        run_input = message.options[RUN_INPUT]
        # The broker names a firing alike in all of its deliveries. The token is the schedule's
        # own: the place in time alone could be that of a firing of a schedule it replaced.
        key = f"schedule {schedule_id} {token} {message.message_id}"
        engine.start_run(
            RunRequest(
                tenant=tenant,
                workflow_id=workflow_id,
                field="input",
                input=run_input,
                body={"input": run_input},
                key=key,
            )
        )

    return start_scheduled
