/**
 * A viewer session's events (WHEP extensions draft): a stream is created by POST and read by GET, again whenever it ends, until
 * the session does. Whatever fails here costs the session nothing: it plays on without events.
 */

import { Backoff } from "./backoff.ts";
import { EventStreamParser } from "./event-stream.ts";
import type { Http } from "./http.ts";
import { SignallingError } from "./problem.ts";
import { pause } from "./time.ts";
import { parseEvent, type WhepEvent } from "./whep-events.ts";

/** The shortest pause before a stream that ended is asked for again, unless the server names one. */
const AGAIN_MS = 500;
const AGAIN_MOST_MS = 30_000;

export interface EventChannelOptions {
  readonly http: Http;
  /** The extension's URL, from the session's `Link`. */
  readonly url: string;
  readonly types: readonly WhepEvent["type"][];
  readonly signal: AbortSignal;
  onEvent(event: WhepEvent): void;
}

/** Reads until the signal is aborted, or the server will have no such stream. Never rejects. */
export async function readEvents(options: EventChannelOptions): Promise<void> {
  const { http, url, types, signal } = options;
  const backoff = new Backoff({ firstMs: AGAIN_MS, mostMs: AGAIN_MOST_MS });
  let stream: string | null = null;
  try {
    for (;;) {
      let wishMs: number | null = null;
      try {
        stream ??= await create(http, url, types, signal);
        wishMs = await read(http, stream, options, () => backoff.reset());
      } catch (thrown) {
        signal.throwIfAborted();
        // Gone: created anew. Refused in another way: this server has none for us.
        const status = thrown instanceof SignallingError ? thrown.status : 0;
        if (status >= 400 && status < 500 && status !== 429) {
          if (stream === null) return;
          stream = null;
        }
        if (thrown instanceof SignallingError) wishMs = thrown.retryAfterMs;
      }
      await pause(Math.min(AGAIN_MOST_MS, backoff.next(wishMs)), signal);
    }
  } catch {
    // The session is over, and the server ends its streams with it.
  }
}

async function create(
  http: Http,
  url: string,
  types: readonly WhepEvent["type"][],
  signal: AbortSignal,
): Promise<string> {
  const response = await http.postJson(url, types, signal);
  const location = response.headers.get("Location");
  if (location === null) throw new SignallingError("protocol", "the event stream has no Location", null, null, 400);
  return new URL(location, response.url || url).href;
}

/** Gives the pause that the server wishes before the next time, in ms. */
async function read(
  http: Http,
  stream: string,
  { signal, onEvent }: EventChannelOptions,
  onProof: () => void,
): Promise<number | null> {
  const body = await http.events(stream, signal);
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new EventStreamParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return parser.retryMs;
      for (const { type, data } of parser.push(decoder.decode(value, { stream: true }))) {
        onProof();
        const event = parseEvent(type, data);
        if (event && !signal.aborted) onEvent(event);
      }
    }
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}
