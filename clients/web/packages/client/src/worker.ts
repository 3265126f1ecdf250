/** The script of the SharedWorker that holds the streams of all tabs. */

import { Tokens } from "./credentials.js";
import { Group, type Locks, type Shared } from "./group.js";
import { browserHost, type Host } from "./host.js";
import * as leader from "./leader.js";
import { Mirror } from "./mirror.js";
import type { Credentials } from "./stream.js";

/** What a tab tells its worker. */
export interface WorkerSetup {
  readonly name: string;
  readonly options: leader.LeaderOptions;
  readonly token: string | null;
  readonly organization: string;
}

interface WorkerScope {
  onconnect: ((event: MessageEvent) => void) | null;
  readonly navigator: { readonly locks: Locks };
}

/** How long a tab may take to refresh the token, in ms. */
const REFRESH_MS = 10_000;

/** Return the credentials of a worker, whose tokens are those of its tabs. */
function credentialsOf(host: Host, tokens: Tokens, groupOf: () => Group): Credentials {
  let refreshing: Promise<boolean> | null = null;
  const refresh = () =>
    new Promise<boolean>((resolve) => {
      const group = groupOf();
      host.timer(() => resolve(false), REFRESH_MS);
      group.onRefreshed = (token) => {
        if (token) tokens.accept(token);
        resolve(token !== null);
      };
      if (!group.askForToken()) resolve(false);
    });
  return {
    headers: () => tokens.headers(),
    // Streams that are refused at the same time wait for the same token.
    refresh: () => {
      refreshing ??= refresh().finally(() => {
        refreshing = null;
      });
      return refreshing;
    },
  };
}

/** Lead a group of tabs in a worker. */
export function lead(host: Host, shared: Shared, setup: WorkerSetup): Group {
  const { name, options, token, organization } = setup;
  const tokens = new Tokens({ organization, ...(token === null ? {} : { token }) });
  const credentials = credentialsOf(host, tokens, () => group);
  const load = async () => leader;
  const mirror = new Mirror(host);
  const group = new Group(host, shared, name, "worker", options, tokens, mirror, load, credentials);
  return group;
}

let isLeading = false;

/** Lead the group of tabs that the first of them names. */
export function serve(scope: WorkerScope): void {
  scope.onconnect = ({ ports }) => {
    const [port] = ports;
    if (port === undefined) return;
    port.onmessage = ({ data }) => {
      if (isLeading) return;
      isLeading = true;
      const shared = {
        channel: (name: string) => new BroadcastChannel(name),
        locks: scope.navigator.locks,
      };
      lead(browserHost(), shared, data as WorkerSetup);
    };
  };
}

serve(globalThis as unknown as WorkerScope);
