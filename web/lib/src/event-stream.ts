/** Server-sent events (WHATWG HTML, section 9.2) read from a `fetch` body: `EventSource` can send no `Authorization`. Bytes in, messages out. */

export interface Message {
  /** "message" where the server names no type. */
  readonly type: string;
  readonly data: string;
}

/** What one message may take: more than the longest list of layers. */
const MESSAGE_LETTERS_MAX = 65_536;

/** Cuts a stream's text into messages, however it is cut into pieces. */
export class EventStreamParser {
  private rest = "";
  private type = "";
  private data: string[] = [];
  private letters = 0;
  private started = false;
  /** What the server's `retry:` said last, in ms. */
  retryMs: number | null = null;

  /** Takes the next piece of text. Throws when a message gets longer than any that is meant for us. */
  push(text: string): Message[] {
    let all = this.rest + text;
    if (!this.started && all !== "") {
      this.started = true;
      all = all.replace(/^\uFEFF/, "");
    }
    const messages: Message[] = [];
    let at = 0;
    for (;;) {
      const end = all.slice(at).search(/[\r\n]/);
      if (end < 0) break;
      const lineEnd = at + end;
      // A CR at the very end may be half of a CRLF.
      if (all[lineEnd] === "\r" && lineEnd + 1 === all.length) break;
      this.line(all.slice(at, lineEnd), messages);
      at = lineEnd + (all.startsWith("\r\n", lineEnd) ? 2 : 1);
    }
    this.rest = all.slice(at);
    if (this.rest.length + this.letters > MESSAGE_LETTERS_MAX) throw new Error("an event is longer than 64 KiB");
    return messages;
  }

  private line(line: string, messages: Message[]): void {
    if (line === "") {
      if (this.data.length > 0) messages.push({ type: this.type || "message", data: this.data.join("\n") });
      this.type = "";
      this.data = [];
      this.letters = 0;
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.type = value;
    else if (field === "data") {
      this.data.push(value);
      this.letters += value.length;
    } else if (field === "retry" && /^\d+$/.test(value)) this.retryMs = Number(value);
    // `id` is for a Last-Event-ID, which no rule of WHEP takes; a line that begins with a colon is a comment.
  }
}
