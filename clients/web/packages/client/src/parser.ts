/**
 * Parse event streams as the HTML standard says: bytes in, blocks out.
 *
 * The last event id changes at the empty line that ends a block, not at the `id` line: a client cut
 * between the two would otherwise lose the event.
 */

export interface ParserEvents {
  /** A block with data. `id` is the id of this block; empty if it has none. */
  block(event: string, data: string, id: string): void;
  /** The cursor moved, with or without a block. */
  cursor(id: string): void;
  comment(): void;
  retry(ms: number): void;
}

export class Parser {
  readonly #decoder = new TextDecoder();
  readonly #on: ParserEvents;
  #rest = "";
  #skipLineFeed = false;
  #event = "";
  #data: string[] = [];
  #id: string | null = null;

  constructor(on: ParserEvents) {
    this.#on = on;
  }

  push(bytes: Uint8Array): void {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (!text) return;
    if (this.#skipLineFeed && text[0] === "\n") text = text.slice(1);
    this.#skipLineFeed = false;
    // Only the new text can contain a line end.
    let begin = 0;
    const line = /\r\n?|\n/g;
    for (let end = line.exec(text); end; end = line.exec(text)) {
      this.#line(this.#rest + text.slice(begin, end.index));
      this.#rest = "";
      begin = line.lastIndex;
    }
    this.#rest += text.slice(begin);
    this.#skipLineFeed = text.endsWith("\r");
  }

  #line(line: string): void {
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (!line) this.#end();
    else if (colon === 0) this.#on.comment();
    else if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.#on.retry(Number(value));
  }

  #end(): void {
    const data = this.#data.join("\n");
    const [event, id, hasData] = [this.#event || "message", this.#id, this.#data.length > 0];
    this.#event = "";
    this.#data = [];
    this.#id = null;
    if (hasData) this.#on.block(event, data, id ?? "");
    if (id !== null) this.#on.cursor(id);
  }
}
