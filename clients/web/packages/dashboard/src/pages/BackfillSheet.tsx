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
  const [range, setRange] = useState(() => ({
    start: localOf(new Date(Date.now() - DAY_MS).toISOString()),
    end: localOf(new Date().toISOString()),
  }));
  const [last, setLast] = useState<{ range: object; answer: BackfillAnswer } | null>(null);
  const [error, setError] = useState<unknown>(null);
  const send = async (dry_run: boolean) => {
    setError(null);
    try {
      const body = { start: timeOf(range.start), end: timeOf(range.end), dry_run };
      const answer = await post<BackfillAnswer>(`api/v1/schedules/${schedule.id}/backfill`, body);
      setLast({ range, answer });
    } catch (failure) {
      setError(failure);
    }
  };
  // What was listed for another range is not what would be started; what has started stays shown.
  const answer = last?.range === range || last?.answer.dry_run === false ? last.answer : null;
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
        <Field
          label="From"
          type="datetime-local"
          value={range.start}
          onChange={(start) => setRange({ ...range, start })}
        />
        <Field
          label="Before"
          type="datetime-local"
          value={range.end}
          onChange={(end) => setRange({ ...range, end })}
        />
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
