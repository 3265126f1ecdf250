import { useState } from "react";
import { post } from "../data/api.ts";
import type { BackfillAnswer, Schedule } from "../data/types.ts";
import { href } from "../router.tsx";
import { Field } from "../ui/fields.tsx";
import { count, localOf, moment, timeOf } from "../ui/format.ts";
import { Command, Failure, Sheet } from "../ui/parts.tsx";

const DAY_MS = 86_400_000;

/** Start the runs that a schedule would have started in a range of time; list them before. */
export function BackfillSheet({ schedule, onClose }: { schedule: Schedule; onClose: () => void }) {
  const [start, setStart] = useState(() => localOf(new Date(Date.now() - DAY_MS).toISOString()));
  const [end, setEnd] = useState(() => localOf(new Date().toISOString()));
  const [answer, setAnswer] = useState<BackfillAnswer | null>(null);
  const [error, setError] = useState<unknown>(null);
  const change = (set: (text: string) => void) => (text: string) => {
    set(text);
    // What was listed is not what would be started.
    setAnswer(null);
  };
  const send = async (dry_run: boolean) => {
    setError(null);
    try {
      const range = { start: timeOf(start), end: timeOf(end), dry_run };
      setAnswer(await post<BackfillAnswer>(`api/v1/schedules/${schedule.id}/backfill`, range));
    } catch (failure) {
      setError(failure);
    }
  };
  const isListed = answer?.dry_run === true;
  return (
    <Sheet
      title={`Backfill ${schedule.id}`}
      onClose={onClose}
      foot={
        <>
          <Command run={() => send(true)}>List the firings</Command>
          {isListed && answer.firings.length ? (
            <Command run={() => send(false)} className="primary">
              Start {count(answer.firings.length, "run")}
            </Command>
          ) : null}
        </>
      }
    >
      <div className="halves">
        <Field label="From" type="datetime-local" value={start} onChange={change(setStart)} />
        <Field label="Before" type="datetime-local" value={end} onChange={change(setEnd)} />
      </div>
      {error ? <Failure error={error} /> : null}
      {answer ? (
        <>
          <p className="hint" role="status">
            {count(answer.firings.length, "firing")}
            {answer.dry_run ? " in this range" : " started"}
          </p>
          <ol aria-label="Firings">
            {answer.firings.map((firing) => (
              <li key={firing.scheduled_at}>
                {moment(firing.scheduled_at)}{" "}
                {firing.execution_id ? (
                  <a href={href("runs", firing.execution_id)}>{firing.execution_id.slice(0, 18)}</a>
                ) : null}
                {firing.error ? <span className="log-error">{firing.error}</span> : null}
              </li>
            ))}
          </ol>
        </>
      ) : null}
    </Sheet>
  );
}
