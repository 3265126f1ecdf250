import type { TenantStatistics } from "../data/types.ts";
import { clock, count } from "../ui/format.ts";

/** Runs that ended, by minute: a small bar chart. */
export function Spark({ minutes }: { minutes: TenantStatistics["throughput"] }) {
  const totals = minutes.map((each) => each.completed + each.failed + each.cancelled);
  const most = Math.max(1, ...totals);
  const all = totals.reduce((sum, each) => sum + each, 0);
  const bad = minutes.reduce((sum, each) => sum + each.failed, 0);
  const label = `${count(all, "run")} ended in the last hour, ${bad} of them failed`;
  return (
    <figure style={{ margin: 0 }}>
      <svg
        className="spark"
        viewBox={`0 0 ${minutes.length * 5} 44`}
        preserveAspectRatio="none"
        role="img"
        aria-label={label}
      >
        {minutes.map((each, index) => {
          const total = totals[index] ?? 0;
          const height = total ? Math.max((total / most) * 42, 3) : 1.5;
          const failed = total ? (each.failed / total) * height : 0;
          const title = `${clock(each.at)}: ${total}`;
          return (
            <g key={each.at}>
              <rect
                className={total ? "" : "none"}
                x={index * 5}
                y={44 - height}
                width={4}
                height={height - failed}
                rx={0.8}
              >
                <title>{title}</title>
              </rect>
              {failed ? (
                <rect className="bad" x={index * 5} y={44 - failed} width={4} height={failed} />
              ) : null}
            </g>
          );
        })}
      </svg>
      <figcaption className="row hint" style={{ justifyContent: "space-between" }}>
        <span>{count(all, "run")}</span>
        <span>{bad ? `${bad} failed` : "none failed"}</span>
      </figcaption>
    </figure>
  );
}
