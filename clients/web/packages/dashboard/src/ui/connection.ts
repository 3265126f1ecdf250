import type { Connection } from "@tailrace/client";

type Words = [status: string, word: string, text: string];

const OLD = "What you see may be old; it catches up by itself.";

/** The state of the streams: of a status, in a word, and in a sentence where people should act. */
export function wordsOf({ state, detail }: Pick<Connection, "state" | "detail">): Words {
  switch (detail) {
    case "unauthorized":
      return ["error", "Signed out", "The API wants a token."];
    case "offline":
      return ["error", "Offline", `This computer is offline. ${OLD}`];
    case "manual":
      return ["waiting", "Cut", ""];
    case "polling":
      return ["waiting", "Polling", "No stream can be opened, so the page asks every few seconds."];
    case "refused":
      return ["error", "Refused", "The API refuses the stream."];
    case "ended":
      return ["skipped", "Ended", ""];
    case "hidden":
    case "frozen":
      return ["queued", "Paused", ""];
  }
  switch (state) {
    case "connected":
      return ["success", "Live", ""];
    case "reconnecting":
      return ["waiting", "Reconnecting", `The stream is cut. ${OLD}`];
    case "error":
      return ["error", "No stream", "No stream can be opened."];
    case "connecting":
      return ["queued", "Connecting", ""];
    // Nothing on the page goes on: an ended run needs no stream.
    default:
      return ["queued", "Idle", ""];
  }
}
