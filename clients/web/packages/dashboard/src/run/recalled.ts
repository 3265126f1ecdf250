/** What a reload of a run's page begins with. */
import { type Keeper, type Kept, KeptRuns } from "../data/kept.ts";
import { BASE, session } from "../data/session.ts";

/** A page is not held up longer by a database that does not answer. */
const LIMIT_MS = 2_000;

const { token, organization } = session();
const keptRuns = new KeptRuns(`${BASE} ${organization} ${subjectOf(token)}`);

/** Return a run as this browser kept it; null if it did not. */
export function recall(id: string): Promise<Kept | null> {
  return Promise.race([keptRuns.recall(id), limit()]);
}

/** Forget all runs of this browser. */
export async function forgetRuns(): Promise<void> {
  await Promise.race([keptRuns.forget(), limit()]);
}

const limit = () => new Promise<null>((resolve) => setTimeout(resolve, LIMIT_MS, null));

/** Return what keeps a run while it is followed. */
export function keeperOf(id: string, kept: Kept | null): Keeper {
  return keptRuns.keeper(id, kept);
}

/** Return whose token it is, so that users of one browser see nothing of each other. */
function subjectOf(text: string): string {
  try {
    const [, claims = ""] = text.split(".");
    return String(JSON.parse(atob(claims.replace(/-/g, "+").replace(/_/g, "/"))).sub ?? text);
  } catch {
    return text;
  }
}
