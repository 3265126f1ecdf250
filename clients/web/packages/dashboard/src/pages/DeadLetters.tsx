import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { call, client, every, get, post } from "../data/api.ts";
import { pagesOf } from "../data/queries.ts";
import type { DeadLetterDocument, DeadLetterList } from "../data/types.ts";
import { count } from "../ui/format.ts";
import * as icons from "../ui/icons.tsx";
import { JsonView } from "../ui/json.tsx";
import { Ago, Command, Confirmed, Empty, Failure, Loading, Side, Title } from "../ui/parts.tsx";
import { Listed, Table } from "../ui/tables.tsx";

const refresh = () => client.invalidateQueries({ queryKey: ["dead-letters"] });

export default function DeadLetters() {
  const [chosen, setChosen] = useState<number | null>(null);
  const [pages, setPages] = useState(1);
  const found = useQuery({
    queryKey: ["dead-letters", pages],
    queryFn: () =>
      pagesOf(
        "api/v1/dead-letters?limit=100",
        pages,
        ({ dead_letters, after }: DeadLetterList) => [dead_letters, after],
        "after",
      ),
    placeholderData: (before) => before,
    refetchInterval: every(10_000),
  });
  const letters = found.data?.entries ?? [];
  const act = async (method: string, path: string) => {
    await (method === "POST" ? post(path) : call(method, path));
    setChosen(null);
    await refresh();
  };
  return (
    <div className="page">
      <Title
        aside={
          letters.length ? (
            <Confirmed
              run={() => act("POST", "api/v1/dead-letters/replay")}
              done="All are back on their queues"
              question="Replay all dead letters?"
              text="Every job is delivered again, also those that are not shown here."
              yes="Replay them"
            >
              <icons.Again /> Replay all
            </Confirmed>
          ) : null
        }
      >
        Dead letters{" "}
        {letters.length ? (
          <span className="muted">
            · {count(letters.length, "job")}
            {found.data?.hasMore ? " and more" : ""}
          </span>
        ) : null}
      </Title>
      <div className={`run-body ${chosen ? "" : "alone"}`}>
        <Listed
          found={found}
          count={(data) => data.entries.length}
          more={found.data?.hasMore && (() => setPages(pages + 1))}
          empty={
            <Empty title="No dead letters" icon={<icons.Dead />}>
              <span>
                A job that fails for good comes here with its traceback, to be replayed or deleted.
              </span>
            </Empty>
          }
        >
          {() => (
            <Table
              columns={[
                "Job",
                ["Queue", "hide-narrow"],
                "Error",
                ["Deliveries", "num hide-narrow"],
                ["Died", "hide-narrow"],
                "",
              ]}
            >
              {letters.map((letter) => (
                <tr key={letter.id} data-selected={letter.id === chosen || undefined}>
                  <td>
                    <button
                      type="button"
                      className="btn quiet"
                      data-row=""
                      onClick={() => setChosen(letter.id)}
                    >
                      {letter.actor ?? letter.reason}
                    </button>
                  </td>
                  <td className="clip hide-narrow">
                    <code>{letter.queue}</code>
                  </td>
                  <td className="clip fill log-error" title={letter.error}>
                    {letter.error}
                  </td>
                  <td className="num muted hide-narrow">{letter.deliveries}</td>
                  <td className="muted hide-narrow">
                    <Ago at={letter.died_at} />
                  </td>
                  <td className="num nowrap">
                    <Command
                      run={() => act("POST", `api/v1/dead-letters/${letter.id}/replay`)}
                      done="Back on its queue"
                      label={`Replay job ${letter.id}`}
                    >
                      <icons.Again /> <span className="hide-narrow">Replay</span>
                    </Command>{" "}
                    <Confirmed
                      run={() => act("DELETE", `api/v1/dead-letters/${letter.id}`)}
                      done="Deleted"
                      className="icon danger"
                      label={`Delete job ${letter.id}`}
                      question={`Delete job ${letter.id}?`}
                      text="It can then no longer be replayed."
                      yes="Delete it"
                    >
                      <icons.Bin />
                    </Confirmed>
                  </td>
                </tr>
              ))}
            </Table>
          )}
        </Listed>
        {chosen ? <Letter id={chosen} onClose={() => setChosen(null)} /> : null}
      </div>
    </div>
  );
}

function Letter({ id, onClose }: { id: number; onClose: () => void }) {
  const letter = useQuery({
    queryKey: ["dead-letter", id],
    queryFn: () => get<DeadLetterDocument>(`api/v1/dead-letters/${id}`),
  });
  return (
    <Side title={<h2>Job {id}</h2>} close="Close the job" onClose={onClose}>
      {letter.isError ? <Failure error={letter.error} /> : null}
      {letter.data ? (
        <>
          <JsonView value={letter.data.traceback || letter.data.error} label="Traceback" />
          <h2 className="card-head">Message</h2>
          <JsonView value={letter.data.message} label="Message" />
        </>
      ) : (
        <Loading />
      )}
    </Side>
  );
}
