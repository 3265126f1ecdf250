"""The actor function of schedules: start one run per firing, however often it is delivered."""

from collections.abc import Callable

from dramatiq.middleware import CurrentMessage

from tailrace_shared.commands.run_starter import RunRequest
from tailrace_shared.commands.schedule_commands import key_of_firing
from tailrace_shared.execution.events import Origin
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.nats.jobs import OVERLAP, RUN_INPUT


def scheduled_start(
    start_run: Callable[[RunRequest], None],
) -> Callable[[str, str, str, str], None]:
    """Return the actor function."""

    def start_scheduled(tenant: str, workflow_id: str, schedule_id: str, token: str) -> None:
        message = CurrentMessage.get_current_message()
        if message is None:
            raise RuntimeError("the middleware CurrentMessage is missing")
        run_input = message.options[RUN_INPUT]
        # The broker gives all deliveries of one firing the same message id.
        key = key_of_firing(schedule_id, token, message.message_id)
        start_run(
            RunRequest(
                tenant=tenant,
                workflow_id=workflow_id,
                field="input",
                input=run_input,
                body={"input": run_input},
                key=key,
                origin=Origin(
                    # NATS fires at whole seconds, or a little later.
                    scheduled_at=format_timestamp(message.message_timestamp // 1000),
                    schedule=schedule_id,
                    overlap=message.options.get(OVERLAP),
                ),
            )
        )

    return start_scheduled
