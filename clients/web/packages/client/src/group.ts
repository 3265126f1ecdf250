/**
 * Tabs that share streams: one leads, the others mirror what it delivers.
 *
 * The leader holds a Web Lock and numbers its deliveries on a BroadcastChannel. When its tab dies,
 * the browser passes the lock on; when it is frozen, its beats stop and another tab takes the lock.
 * The next leader goes on from the cursors of its mirror. A tab that missed a delivery asks for a
 * copy. With a SharedWorker the worker leads, by the same rules.
 */

import type { Tokens } from "./credentials.js";
import type { Host } from "./host.js";
import type { Leader, LeaderOptions } from "./leader.js";
import type { Pause } from "./link.js";
import type { Copy, Delivery, Mirror, Wish } from "./mirror.js";
import type { Credentials } from "./stream.js";
import type { Connection, Source } from "./types.js";

/** A place among the deliveries of all leaders. */
interface Position {
  readonly epoch: string;
  readonly n: number;
}

type Message =
  | { readonly t: "delivery"; readonly at: Position; readonly delivery: Delivery }
  | { readonly t: "lead"; readonly at: Position; readonly after: Position }
  | { readonly t: "beat"; readonly at: Position }
  | {
      readonly t: "want";
      readonly tab: string;
      readonly wishes: readonly Wish[];
      readonly visible: boolean;
      readonly offline: boolean;
    }
  | { readonly t: "bye"; readonly tab: string }
  | { readonly t: "copy?"; readonly tab: string }
  | { readonly t: "copy"; readonly tab: string; readonly at: Position; readonly copy: Copy }
  | { readonly t: "restart"; readonly source: Source }
  | { readonly t: "pause"; readonly manual: boolean }
  | { readonly t: "wake" }
  | { readonly t: "token"; readonly token: string }
  | { readonly t: "refresh"; readonly tab: string }
  | { readonly t: "refreshed"; readonly token: string | null };

/** The part of a BroadcastChannel that a group needs. */
export interface Channel {
  postMessage(message: unknown): void;
  onmessage: ((event: MessageEvent) => void) | null;
  close(): void;
}

/** The part of `navigator.locks` that a group needs. */
export interface Locks {
  request(
    name: string,
    options: { steal?: boolean; signal?: AbortSignal },
    run: () => Promise<unknown>,
  ): Promise<unknown>;
}

export interface Shared {
  channel(name: string): Channel;
  readonly locks: Locks;
}

const BEAT_MS = 300;
/** How long beats may be missing, in ms. A needless change of leaders costs one reconnect. */
const SILENT_MS = 1_000;

/** The code that holds streams, which a page loads only when it leads: a worker may do it. */
export type LeaderLoader = () => Promise<{ readonly Leader: typeof Leader }>;

export type Role = "tab" | "tab-of-worker" | "worker";

/** What a leader knows of a tab. */
type TabState = Pick<Message & { readonly t: "want" }, "wishes" | "visible" | "offline">;

export class Group {
  readonly #host: Host;
  readonly #shared: Shared;
  readonly #name: string;
  readonly #role: Role;
  readonly #options: LeaderOptions;
  readonly #tokens: Tokens;
  readonly #mirror: Mirror;
  readonly #id: string;
  #channel: Channel;
  /** Loaded code; null until then, and without it a tab does not stand. */
  #Leader: typeof Leader | null = null;
  #leader: Leader | null = null;
  #position: Position = { epoch: "", n: 0 };
  #wishes: readonly Wish[] = [];
  #isVisible = true;
  #isOffline = false;
  #isPausedByHand = false;
  #isKnown = false;
  #beatAt: number;
  /** Epochs of leaders that others have followed: what still comes from them is old. */
  readonly #past = new Set<string>();
  #askedAt = Number.NEGATIVE_INFINITY;
  #cancelBeat: () => void = () => {};
  #leaving = new AbortController();
  #candidacy: AbortController | null = null;
  #release: () => void = () => {};
  readonly #tabs = new Map<string, TabState>();
  readonly #credentials: Credentials;
  /** Called with the token that `askForToken` asked for; null if the tab has no other one. */
  onRefreshed: (token: string | null) => void = () => {};

  constructor(
    host: Host,
    shared: Shared,
    name: string,
    role: Role,
    options: LeaderOptions,
    tokens: Tokens,
    mirror: Mirror,
    load: LeaderLoader,
    credentials: Credentials = tokens,
  ) {
    this.#credentials = credentials;
    this.#host = host;
    this.#shared = shared;
    this.#name = name;
    this.#role = role;
    this.#options = options;
    this.#tokens = tokens;
    this.#mirror = mirror;
    this.#id = `${host.now().toString(36)}-${host.random().toString(36).slice(2)}`;
    this.#beatAt = host.now();
    this.#local({});
    this.#channel = shared.channel(name);
    this.#channel.onmessage = ({ data }) => this.#receive(data as Message);
    tokens.onToken = (token) => this.#post({ t: "token", token });
    tokens.exclusive = (run) =>
      shared.locks.request(`${name}:token`, {}, run) as ReturnType<typeof run>;
    if (role !== "worker") {
      // The leader learns of this tab's end by the lock that ends with it. So the tab makes itself
      // known only once it holds the lock.
      void shared.locks
        .request(`${name}:${this.#id}`, { signal: this.#leaving.signal }, () => {
          this.#isKnown = true;
          this.#askForCopy();
          this.#announce();
          return new Promise<void>((resolve) => {
            this.#release = resolve;
          });
        })
        .catch(() => {});
    }
    this.#tick();
    // Loaded ahead: when a tab must take over, the server may be down.
    void load().then(({ Leader }) => {
      this.#Leader = Leader;
      this.#stand();
    });
  }

  want(wishes: readonly Wish[]): void {
    this.#wishes = wishes;
    this.#announce();
  }

  setVisible(visible: boolean): void {
    this.#isVisible = visible;
    this.#announce();
    if (visible) this.#stand();
    else this.#withdraw();
  }

  restart(source: Source): void {
    if (this.#leader) this.#leader.restart(source);
    else this.#post({ t: "restart", source });
  }

  hold(reason: Pause, isPaused: boolean): void {
    if (reason === "manual") this.#manual(isPaused);
    else if (reason === "offline") {
      this.#isOffline = isPaused;
      this.#announce();
    } else if (isPaused) this.#resign();
    else this.#askForCopy();
  }

  reconnect(): void {
    this.#manual(false);
  }

  wake(): void {
    if (this.#leader) this.#leader.wake();
    else this.#post({ t: "wake" });
  }

  /** Let a tab refresh the token, a visible one first; return whether there is one. */
  askForToken(): boolean {
    const tabs = [...this.#tabs];
    const [tab] = tabs.find(([, { visible }]) => visible) ?? tabs[0] ?? [];
    if (tab) this.#post({ t: "refresh", tab });
    return tab !== undefined;
  }

  close(): void {
    this.#post({ t: "bye", tab: this.#id });
    this.#leaving.abort();
    this.#resign();
    this.#release();
    this.#cancelBeat();
    this.#channel.onmessage = null;
    this.#channel.close();
  }

  #manual(isPaused: boolean): void {
    this.#post({ t: "pause", manual: isPaused });
    this.#pauseByHand(isPaused);
  }

  #pauseByHand(isPaused: boolean): void {
    this.#isPausedByHand = isPaused;
    if (isPaused) this.#leader?.hold("manual", true);
    else this.#leader?.reconnect();
  }

  #post(message: Message): void {
    // A refresh may outlast the group.
    if (!this.#leaving.signal.aborted) this.#channel.postMessage(message);
  }

  // Each delivery that comes before the copy shows the same gap.
  #askForCopy(): void {
    const now = this.#host.now();
    if (now - this.#askedAt < BEAT_MS) return;
    this.#askedAt = now;
    this.#post({ t: "copy?", tab: this.#id });
  }

  #announce(): void {
    const own = {
      wishes: this.#wishes,
      visible: this.#isVisible,
      offline: this.#isOffline,
    };
    if (this.#leader) {
      this.#tabs.set(this.#id, own);
      this.#serve();
    } else if (this.#isKnown) this.#post({ t: "want", tab: this.#id, ...own });
  }

  /** Ask to lead, as soon as no other tab does. */
  #stand(steals = false): void {
    const cannot =
      !this.#Leader || this.#leader || !this.#isVisible || this.#leaving.signal.aborted;
    const waits = this.#candidacy || this.#role === "tab-of-worker";
    if (cannot || (waits && !steals)) return;
    this.#candidacy?.abort();
    const candidacy = new AbortController();
    this.#candidacy = candidacy;
    const options = steals ? { steal: true } : { signal: candidacy.signal };
    this.#shared.locks
      .request(`${this.#name}:leader`, options, () => this.#lead(candidacy))
      .catch(() => {})
      .finally(() => {
        // Another tab took the lead while this one was frozen.
        if (this.#candidacy === candidacy) this.#stepDown();
      });
  }

  #withdraw(): void {
    const others = [...this.#tabs].some(([tab, { visible }]) => tab !== this.#id && visible);
    if (!this.#leader) {
      this.#candidacy?.abort();
      this.#candidacy = null;
    } else if (others && this.#role !== "worker") this.#resign();
  }

  #resign(): void {
    this.#candidacy?.abort();
    this.#stepDown();
  }

  #stepDown(): void {
    this.#candidacy = null;
    this.#leader?.close();
    this.#leader = null;
    this.#beatAt = this.#host.now();
    this.#local({ leads: false });
    if (this.#leaving.signal.aborted) return;
    // The next leader's first message shows whether this mirror lacks anything. This tab stands
    // again with its next beat: at once, a lock that cannot be had would be asked for in a loop.
    this.#announce();
  }

  async #lead(candidacy: AbortController): Promise<void> {
    if (!this.#Leader || candidacy.signal.aborted || this.#candidacy !== candidacy) return;
    const after = this.#position;
    // Epochs sort by their beginning: of two leaders the later one has the lock.
    this.#moveTo({ epoch: `${this.#host.now()} ${this.#id}`, n: 0 });
    this.#tabs.clear();
    this.#leader = new this.#Leader(
      this.#host,
      this.#options,
      this.#credentials,
      this.#mirror,
      (delivery) => this.#emit(delivery),
    );
    if (this.#isPausedByHand) this.#leader.hold("manual", true);
    this.#local({ leads: this.#role !== "worker" });
    this.#post({ t: "lead", at: this.#position, after });
    if (this.#role !== "worker") this.#announce();
    await new Promise((resolve) => candidacy.signal.addEventListener("abort", resolve));
  }

  #emit(delivery: Delivery): void {
    this.#position = { ...this.#position, n: this.#position.n + 1 };
    this.#mirror.apply(delivery);
    this.#post({ t: "delivery", at: this.#position, delivery });
  }

  #local(connection: Partial<Connection>): void {
    const sharing = this.#role === "tab" ? "locks" : "worker";
    this.#mirror.connect({ ...connection, sharing });
  }

  /** Serve all tabs: together they want what each of them wants. */
  #serve(): void {
    const tabs = [...this.#tabs.values()];
    const isAnyVisible = tabs.some((tab) => tab.visible);
    if (this.#mirror.connection.tabs !== tabs.length)
      this.#emit({ type: "connection", connection: { tabs: tabs.length } });
    if (tabs.length) {
      this.#leader?.setVisible(isAnyVisible);
      // A frozen tab, which is hidden, does not learn whether the browser is online.
      const isOffline = tabs.every((tab) => tab.offline || (isAnyVisible && !tab.visible));
      this.#leader?.hold("offline", this.#isOffline || isOffline);
    }
    this.#leader?.want(
      tabs.flatMap((tab) =>
        tab.wishes.map((wish) => ({ ...wish, visible: wish.visible && tab.visible })),
      ),
    );
    if (!this.#isVisible && isAnyVisible) this.#withdraw();
  }

  #forget(tab: string): void {
    if (!this.#tabs.delete(tab)) return;
    this.#serve();
  }

  #join(tab: string, state: TabState): void {
    if (!this.#tabs.has(tab) && tab !== this.#id)
      this.#shared.locks
        .request(`${this.#name}:${tab}`, {}, async () => {
          if (this.#leader) this.#forget(tab);
        })
        .catch(() => {});
    this.#tabs.set(tab, state);
    this.#serve();
  }

  #receive(message: Message): void {
    switch (message.t) {
      case "delivery":
      case "beat":
        if (this.#leader || this.#past.has(message.at.epoch)) return;
        this.#beatAt = this.#host.now();
        if (message.t === "delivery" && this.#isNext(message.at)) {
          this.#position = message.at;
          this.#mirror.apply(message.delivery);
        } else if (message.at.epoch !== this.#position.epoch || message.at.n > this.#position.n)
          this.#askForCopy();
        return;
      case "lead":
        if (this.#past.has(message.at.epoch)) return;
        if (this.#leader && message.at.epoch < this.#position.epoch) return;
        // Another tab has taken the lock; this one hears of the lock itself later.
        if (this.#leader) this.#resign();
        this.#beatAt = this.#host.now();
        if (message.after.epoch === this.#position.epoch && message.after.n === this.#position.n)
          this.#moveTo(message.at);
        else this.#askForCopy();
        if (this.#role !== "worker") this.#announce();
        return;
      case "copy":
        if (message.tab !== this.#id || this.#leader) return;
        this.#askedAt = Number.NEGATIVE_INFINITY;
        this.#moveTo(message.at);
        this.#mirror.load(message.copy);
        this.#local({ leads: false });
        this.#announce();
        return;
      case "token":
        this.#tokens.accept(message.token);
        return;
      case "refreshed":
        this.onRefreshed(message.token);
        return;
      case "refresh":
        if (message.tab === this.#id) void this.#refreshFor();
        return;
      case "pause":
        this.#pauseByHand(message.manual);
        return;
      default:
        if (this.#leader) this.#lookAfter(message, this.#leader);
    }
  }

  #lookAfter(message: Message, leader: Leader): void {
    if (message.t === "want") this.#join(message.tab, message);
    else if (message.t === "bye") this.#forget(message.tab);
    else if (message.t === "restart") leader.restart(message.source);
    else if (message.t === "wake") leader.wake();
    else if (message.t === "copy?") {
      const copy = this.#mirror.copy();
      this.#post({ t: "copy", tab: message.tab, at: this.#position, copy });
    }
  }

  #moveTo(position: Position): void {
    if (position.epoch !== this.#position.epoch) this.#past.add(this.#position.epoch);
    this.#position = position;
  }

  #isNext({ epoch, n }: Position): boolean {
    return epoch === this.#position.epoch && n === this.#position.n + 1;
  }

  // A beat shows that the leader runs, and its position whether a delivery is missing.
  #tick(): void {
    if (this.#leader) this.#post({ t: "beat", at: this.#position });
    else if (this.#isVisible && this.#role !== "worker") {
      const silence = this.#host.now() - this.#beatAt;
      const isSilent = silence > SILENT_MS + this.#host.random() * BEAT_MS;
      if (isSilent) this.#beatAt += silence;
      this.#stand(isSilent);
    }
    this.#cancelBeat = this.#host.timer(() => this.#tick(), BEAT_MS);
  }

  async #refreshFor(): Promise<void> {
    const ok = await this.#tokens.refresh().catch(() => false);
    this.#post({ t: "refreshed", token: ok ? await this.#tokens.get() : null });
  }
}
