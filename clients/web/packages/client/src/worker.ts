/** The script of the SharedWorker that holds the streams of all tabs. */

import { Tokens } from "./credentials.js";
import { Group, type Locks } from "./group.js";
import { browserHost } from "./host.js";
import * as leader from "./leader.js";
import { Mirror } from "./mirror.js";

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

let isLeading = false;

/** Lead the group of tabs that the first of them names. */
export function serve(scope: WorkerScope): void {
  scope.onconnect = ({ ports }) => {
    const [port] = ports;
    if (port === undefined) return;
    port.onmessage = ({ data }) => {
      const { name, options, token, organization } = data as WorkerSetup;
      if (isLeading) return;
      isLeading = true;
      const host = browserHost();
      const shared = {
        channel: (name: string) => new BroadcastChannel(name),
        locks: scope.navigator.locks,
      };
      const tokens = new Tokens({ organization, ...(token === null ? {} : { token }) });
      const mirror = new Mirror(host);
      new Group(host, shared, name, "worker", options, tokens, mirror, async () => leader);
    };
  };
}

serve(globalThis as unknown as WorkerScope);
