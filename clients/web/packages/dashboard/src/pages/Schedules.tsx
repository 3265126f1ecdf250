import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { call, client, every, post } from "../data/api.ts";
import { Only } from "../data/me.tsx";
import { pagesOf, useWorkflow, useWorkflows } from "../data/queries.ts";
import type { Json, Schedule, ScheduleList } from "../data/types.ts";
import { useNow } from "../data/useStore.ts";
import { href } from "../router.tsx";
import { Choice, Field, Workflows } from "../ui/fields.tsx";
import { moment, until } from "../ui/format.ts";
import * as icons from "../ui/icons.tsx";
import { Ago, Command, Confirmed, Empty, Failure, Sheet, Title } from "../ui/parts.tsx";
import { Listed, Table } from "../ui/tables.tsx";
import { ValueForm } from "../ui/ValueForm.tsx";
import { BackfillSheet } from "./BackfillSheet.tsx";

const OVERLAPS = {
  queue: "one at a time, others queue",
  skip: "one at a time, others are skipped",
  cancel: "one at a time, the newest",
} as const;

export default function Schedules() {
  const [isNew, setNew] = useState(false);
  const [filled, setFilled] = useState<Schedule | null>(null);
  const now = useNow();
  const [pages, setPages] = useState(1);
  const found = useQuery({
    queryKey: ["schedules", pages],
    queryFn: () =>
      pagesOf("api/v1/schedules?limit=200", pages, ({ schedules, cursor }: ScheduleList) => [
        schedules,
        cursor,
      ]),
    placeholderData: (before) => before,
    refetchInterval: every(10_000),
  });
  const act = async (method: string, path: string) => {
    await (method === "POST"
      ? post(`api/v1/schedules/${path}`)
      : call(method, `api/v1/schedules/${path}`));
    await client.invalidateQueries({ queryKey: ["schedules"] });
  };
  return (
    <div className="page">
      <Title
        aside={
          <Only scope="workflows:write">
            <button type="button" className="btn primary" onClick={() => setNew(true)}>
              <icons.Plus /> New schedule
            </button>
          </Only>
        }
      >
        Schedules
      </Title>
      <Listed
        found={found}
        count={(data) => data.entries.length}
        more={found.data?.hasMore && (() => setPages(pages + 1))}
        empty={
          <Empty title="No schedules yet" icon={<icons.Clock />}>
            <span>A schedule starts runs by a cron expression or at an interval:</span>
            <pre>
              tailrace schedule add purchase-order --cron "0 6 * * *" --time-zone Europe/Vienna
            </pre>
          </Empty>
        }
      >
        {({ entries: schedules }) => (
          <Table
            columns={[
              "Schedule",
              ["Workflow", "hide-narrow"],
              "When",
              ["Last", "hide-narrow"],
              ["Next", "hide-narrow"],
              "",
            ]}
          >
            {schedules.map((schedule) => (
              <tr key={schedule.id}>
                <td className="clip name strong">{schedule.id}</td>
                <td className="clip hide-narrow">
                  <a href={href("workflows", schedule.workflow_id)}>{schedule.workflow_id}</a>
                </td>
                <td className="nowrap">
                  <code>{schedule.cron}</code>{" "}
                  <span className="muted hide-narrow">{schedule.time_zone ?? ""}</span>
                  {schedule.overlap ? (
                    <div className="muted hide-narrow">{OVERLAPS[schedule.overlap]}</div>
                  ) : null}
                </td>
                <td className="muted nowrap hide-narrow">
                  <Last schedule={schedule} />
                </td>
                <td className="muted nowrap hide-narrow" title={schedule.next_at ?? undefined}>
                  {schedule.paused
                    ? "paused"
                    : schedule.next_at
                      ? `${until(schedule.next_at, now)} · ${moment(schedule.next_at)}`
                      : "at its interval"}
                </td>
                <td className="num nowrap">
                  <Only scope="executions:write">
                    <Command
                      run={() => post(`api/v1/schedules/${schedule.id}/run`)}
                      done="A run has begun"
                      label={`Run ${schedule.id} now`}
                    >
                      <icons.Play /> <span className="hide-narrow">Run now</span>
                    </Command>{" "}
                    <button
                      type="button"
                      className="btn hide-narrow"
                      aria-label={`Backfill ${schedule.id}`}
                      onClick={() => setFilled(schedule)}
                    >
                      Backfill…
                    </button>
                  </Only>{" "}
                  <Only scope="workflows:write">
                    {schedule.paused ? (
                      <Command
                        run={() => act("POST", `${schedule.id}/resume`)}
                        done="It fires again"
                        className="icon"
                        label={`Resume ${schedule.id}`}
                        title="Resume"
                      >
                        <icons.Again />
                      </Command>
                    ) : (
                      <Command
                        run={() => act("POST", `${schedule.id}/pause`)}
                        done="It does not fire until it is resumed"
                        className="icon"
                        label={`Pause ${schedule.id}`}
                        title="Pause"
                      >
                        <icons.Pause />
                      </Command>
                    )}{" "}
                    <Confirmed
                      run={() => act("DELETE", schedule.id)}
                      done="Deleted"
                      className="icon danger"
                      label={`Delete ${schedule.id}`}
                      question={`Delete the schedule ${schedule.id}?`}
                      text="It starts no more runs. Those that have begun go on."
                      yes="Delete it"
                    >
                      <icons.Bin />
                    </Confirmed>
                  </Only>
                </td>
              </tr>
            ))}
          </Table>
        )}
      </Listed>
      {isNew ? <NewSchedule onClose={() => setNew(false)} /> : null}
      {filled ? <BackfillSheet schedule={filled} onClose={() => setFilled(null)} /> : null}
    </div>
  );
}

function Last({ schedule: { last_at, last_execution_id } }: { schedule: Schedule }) {
  if (!last_at) return "never";
  return (
    <>
      <Ago at={last_at} /> ·{" "}
      {last_execution_id ? <a href={href("runs", last_execution_id)}>its run</a> : "skipped"}
    </>
  );
}

function NewSchedule({ onClose }: { onClose: () => void }) {
  const workflows = useWorkflows();
  const [workflow, setWorkflow] = useState("");
  const [id, setId] = useState("");
  const [cron, setCron] = useState("0 6 * * *");
  const [zone, setZone] = useState(Intl.DateTimeFormat().resolvedOptions().timeZone);
  const [overlap, setOverlap] = useState("");
  const [input, setInput] = useState<Json>({});
  const [error, setError] = useState<unknown>(null);
  const chosen = workflow || (workflows.data?.workflows[0]?.workflow_id ?? "");
  const definition = useWorkflow(chosen);
  const save = async (value: Json) => {
    setError(null);
    try {
      await post("api/v1/schedules", {
        ...(id ? { id } : {}),
        workflow_id: chosen,
        cron,
        ...(overlap ? { overlap } : {}),
        ...(zone && !cron.startsWith("@") ? { time_zone: zone } : {}),
        input: value,
      });
      await client.invalidateQueries({ queryKey: ["schedules"] });
      onClose();
    } catch (failure) {
      setError(failure);
    }
  };
  return (
    <Sheet title="New schedule" onClose={onClose}>
      {error ? <Failure error={error} /> : null}
      <Choice label="Workflow" value={chosen} onChange={setWorkflow}>
        <Workflows all={workflows.data?.workflows} />
      </Choice>
      <div className="halves">
        <Field
          label="When"
          value={cron}
          onChange={setCron}
          hint="five or six fields, or @every 15m"
          isMono
        />
        <Field label="Time zone" value={zone} onChange={setZone} />
      </div>
      <div className="halves">
        <Field label="Id, optional" value={id} onChange={setId} />
        <Choice label="While a run of it is active" value={overlap} onChange={setOverlap}>
          <option value="">runs may overlap</option>
          {Object.entries(OVERLAPS).map(([name, text]) => (
            <option key={name} value={name}>
              {text}
            </option>
          ))}
        </Choice>
      </div>
      {definition.data ? (
        <ValueForm
          key={chosen}
          id="schedule-input"
          schema={definition.data.definition.input}
          value={input}
          onChange={setInput}
          onSubmit={save}
        >
          <div className="row tight">
            <button type="submit" className="btn primary">
              Store the schedule
            </button>
          </div>
        </ValueForm>
      ) : null}
    </Sheet>
  );
}
