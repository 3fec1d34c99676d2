/**
 * The HTTP of WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): an offer goes up, an answer or a counter-offer comes down;
 * the session's URL takes candidates, restarts, tokens and its end.
 *
 * Redirections (307, RFC 9725 section 4.5) are followed by `fetch`; a session's URL is resolved against where that led.
 */

import { FRAGMENT_TYPE } from "./fragment.ts";
import { parseLinks, type Link } from "./link.ts";
import { asSignallingError, errorOf, SignallingError } from "./problem.ts";
import type { Tokens } from "./token.ts";

/** `application/sdp`. */
export const SDP_TYPE = "application/sdp";

/** What a POST of an offer came to. */
export interface Answer {
  /** 406: an offer of the server's own, to be completed by a PATCH (draft-ietf-wish-whep, "Server Sends Counter-Offer"). */
  readonly isCounterOffer: boolean;
  readonly sdp: string;
  /** The session's own URL. */
  readonly resource: string;
  /** Names the ICE session (RFC 9725, section 4.3.1); `null` where a server has no restarts. */
  readonly etag: string | null;
  readonly links: readonly Link[];
  /** Where the answer came from: what links are relative to. */
  readonly base: string;
}

export interface Patched {
  readonly etag: string | null;
  /** The server's fragment, for a restart; `null` after 204. */
  readonly fragment: string | null;
}

interface Ask {
  readonly method: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal?: AbortSignal | undefined;
  readonly keepalive?: boolean;
}

/** Asks the server in the name of one connection. */
export class Http {
  constructor(
    readonly protocol: "whip" | "whep",
    readonly tokens: Tokens,
    private readonly fetch_: typeof fetch = (input, init) => fetch(input, init),
  ) {}

  /** Posts the offer. Throws a `SignallingError`, or the signal's reason when it was aborted. */
  async postOffer(url: string | URL, offer: string, signal: AbortSignal): Promise<Answer> {
    const headers = { "Content-Type": SDP_TYPE, Accept: SDP_TYPE };
    const response = await this.ask(url, { method: "POST", headers, body: offer, signal });
    const location = response.headers.get("Location");
    const isSdp = /^application\/sdp\b/i.test(response.headers.get("Content-Type") ?? "");
    const isCounterOffer = this.protocol === "whep" && response.status === 406 && isSdp && location !== null;
    if (response.status !== 201 && !isCounterOffer) throw await errorOf(response, this.protocol);
    if (location === null) {
      throw new SignallingError("protocol", "the server's answer has no Location, so its session could never be ended");
    }
    const base = baseOf(response, url);
    return {
      isCounterOffer,
      sdp: await textOf(response, signal),
      resource: new URL(location, base).href,
      etag: response.headers.get("ETag"),
      links: parseLinks(response.headers.get("Link")),
      base,
    };
  }

  /**
   * Adds candidates (`ifMatch`: the ICE session's ETag), or restarts ICE (`*`): RFC 9725, section 4.3.
   * Throws a `SignallingError`.
   */
  async patchFragment(resource: string, fragment: string, ifMatch: string | null, signal: AbortSignal): Promise<Patched> {
    const headers = { "Content-Type": FRAGMENT_TYPE, ...(ifMatch !== null && { "If-Match": ifMatch }) };
    const response = await this.ask(resource, { method: "PATCH", headers, body: fragment, signal });
    if (!response.ok) throw await errorOf(response, "session");
    const text = response.status === 200 ? await textOf(response, signal) : null;
    return { etag: response.headers.get("ETag"), fragment: text };
  }

  /** Completes a counter-offer. Throws a `SignallingError`. */
  async patchAnswer(resource: string, answer: string, signal: AbortSignal): Promise<void> {
    const headers = { "Content-Type": SDP_TYPE };
    const response = await this.ask(resource, { method: "PATCH", headers, body: answer, signal });
    if (response.ok) return;
    const error = await errorOf(response, "session");
    // The server offered all it has of the stream, so what is missing is a decoder.
    const { message, problem, retryAfterMs, status } = error;
    throw status === 422 ? new SignallingError("undecodable", message, problem, retryAfterMs, status) : error;
  }

  /** Posts JSON to an extension's URL. Throws a `SignallingError`. */
  async postJson(url: string, body: unknown, signal?: AbortSignal): Promise<Response> {
    const headers = { "Content-Type": "application/json" };
    const response = await this.ask(url, { method: "POST", headers, body: JSON.stringify(body), signal });
    if (!response.ok) throw await errorOf(response, "session");
    return response;
  }

  /** Opens a stream of events. Throws a `SignallingError`. */
  async events(url: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    const response = await this.ask(url, { method: "GET", headers: { Accept: "text/event-stream" }, signal });
    if (!response.ok) throw await errorOf(response, "session");
    if (response.body === null) throw new SignallingError("protocol", "the event stream has no body");
    return response.body;
  }

  /** Looks whether something is there and may be read. Throws a `SignallingError` when not. */
  async look(url: string | URL, signal: AbortSignal): Promise<void> {
    const response = await this.ask(url, { method: "GET", signal });
    if (!response.ok) throw await errorOf(response, this.protocol);
    await response.body?.cancel();
  }

  /**
   * Shows a session another token, which renews it: Sluice looks at the token of any request on a session's URL.
   * Throws a `SignallingError`.
   */
  async renew(resource: string): Promise<void> {
    await this.fresh();
    const response = await this.ask(resource, { method: "GET" });
    if (!response.ok) throw await errorOf(response, "session");
  }

  /** The status that an endpoint gives to HEAD; `null` when it cannot be reached. 503: it takes no sessions at present. */
  async statusOf(url: string | URL, signal: AbortSignal): Promise<number | null> {
    return this.ask(url, { method: "HEAD", signal }).then(
      ({ status }) => status,
      () => null,
    );
  }

  /**
   * Ends a session. Never throws: a session that cannot be ended this way dies of missing consent within seconds.
   * `keepalive` lets the request outlive the page.
   */
  async delete(resource: string): Promise<void> {
    await this.ask(resource, { method: "DELETE", keepalive: true }).catch(() => undefined);
  }

  /** With the token; once more with a fresh one after a 401, and where a redirection has lost it. */
  private async ask(url: string | URL, ask: Ask): Promise<Response> {
    try {
      // Whether a token has to be waited for decides nothing but time: a page that goes away has none to wait.
      let token = await this.token();
      let response = await this.send(url, ask, token);
      if (response.status === 401 && token !== null && lostToken(response, url)) {
        response = await this.send(response.url, ask, token);
      }
      if (response.status === 401 && this.tokens.renewable && ask.method !== "DELETE") {
        const fresh = await this.fresh();
        if (fresh !== token) {
          token = fresh;
          response = await this.send(lostToken(response, url) ? response.url : url, ask, token);
        }
      }
      return response;
    } catch (thrown) {
      if (ask.signal?.aborted) throw ask.signal.reason;
      throw asSignallingError(thrown);
    }
  }

  private token(): Promise<string | null> {
    return this.tokens.get().catch(noToken);
  }

  private fresh(): Promise<string | null> {
    return this.tokens.fresh().catch(noToken);
  }

  private send(url: string | URL, ask: Ask, token: string | null): Promise<Response> {
    const { signal, headers, ...rest } = ask;
    return this.fetch_(url, {
      ...rest,
      headers: { ...headers, ...(token !== null && token !== "" && { Authorization: `Bearer ${token}` }) },
      ...(signal && { signal }),
      cache: "no-store",
      referrerPolicy: "no-referrer",
    });
  }
}

function noToken(thrown: unknown): never {
  if (thrown instanceof SignallingError) throw thrown;
  const why = thrown instanceof Error ? thrown.message : String(thrown);
  throw new SignallingError("unauthorised", `no token could be had: ${why}`);
}

/** `url` is empty only for responses made by hand. */
function baseOf(response: Response, url: string | URL): string {
  return response.url || new URL(url, globalThis.location?.href).href;
}

/**
 * Whether the answer is another origin's: browsers take `Authorization` away from a request that is redirected across
 * origins (Fetch standard, HTTP-redirect fetch). The server that the token was meant for has named the other one, so that one
 * may have it too, but never in the clear when it came encrypted.
 */
function lostToken(response: Response, url: string | URL): boolean {
  if (!response.redirected || response.url === "") return false;
  const [from, to] = [new URL(url, globalThis.location?.href), new URL(response.url)];
  return to.origin !== from.origin && (to.protocol === "https:" || from.protocol === "http:");
}

async function textOf(response: Response, signal: AbortSignal): Promise<string> {
  try {
    return await response.text();
  } catch (thrown) {
    if (signal.aborted) throw signal.reason;
    throw asSignallingError(thrown);
  }
}

