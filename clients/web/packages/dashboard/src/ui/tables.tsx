/** Tables, and lists that are loading, empty, or refused. */
import type { UseQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { useProblem } from "../data/queries.ts";
import { Failure, Loading } from "./parts.tsx";

/** A title, with the class of its cells; an empty title is that of buttons. */
type Column = string | readonly [title: string, className: string];

export function Table({ columns, children }: { columns: readonly Column[]; children: ReactNode }) {
  return (
    <table className="table">
      <thead>
        <tr>
          {columns.map((column) => {
            const [title, className] = typeof column === "string" ? [column] : column;
            return (
              <th key={title} scope="col" className={className}>
                {title || <span className="visually-hidden">Actions</span>}
              </th>
            );
          })}
        </tr>
      </thead>
      <tbody>{children}</tbody>
    </table>
  );
}

interface ListedProps<T> {
  found: UseQueryResult<T, unknown>;
  /** Return how many entries there are. */
  count: (data: T) => number;
  /** What is shown without entries. */
  empty: ReactNode;
  children: (data: T) => ReactNode;
  rows?: number;
  /** Show more entries; absent if there are none. */
  more?: (() => void) | false;
}

/** A button below a list that is not complete. */
export function More({ show }: { show: () => void }) {
  return (
    <div className="card-body">
      <button type="button" className="btn" onClick={show}>
        More
      </button>
    </div>
  );
}

/** A card with the entries of an answer. */
export function Listed<T>({ found, count, empty, children, rows, more }: ListedProps<T>) {
  const { data } = found;
  const problem = useProblem(found);
  return (
    <div className="card scroll-x" style={{ alignSelf: "start" }}>
      {problem ? <Failure error={problem} retry={() => found.refetch()} /> : null}
      {found.isPending && !problem ? <Loading {...(rows ? { rows } : {})} /> : null}
      {data === undefined ? null : count(data) ? children(data) : empty}
      {more ? <More show={more} /> : null}
    </div>
  );
}
