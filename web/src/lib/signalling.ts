/**
 * The HTTP of WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): an offer goes up, an answer comes down, a DELETE ends it.
 *
 * Sluice is an ICE-lite agent with its host candidates in the answer, so an offer is sent as soon as it exists: the
 * server learns the browser's addresses from its connectivity checks. There is no trickle and no gathering to wait for.
 */

import { iceServersOf } from "./link";
import { asSignallingError, errorOf, SignallingError } from "./problem";

export interface Endpoint {
  /** `/whip/{stream}` or `/whep/{stream}`, absolute or relative to the page. */
  readonly url: string | URL;
  readonly protocol: "whip" | "whep";
  /** Sent as `Authorization: Bearer`; never put into a URL, a message or a log by this library. */
  readonly token?: string | null;
  /** For tests. */
  readonly fetch?: typeof fetch;
}

export interface Answer {
  readonly sdp: string;
  /** The session's own URL, for DELETE. */
  readonly resource: string;
  /** STUN and TURN servers that the server names, for networks where its own addresses are out of reach. */
  readonly iceServers: readonly RTCIceServer[];
}

function authorisation(token: string | null | undefined): Record<string, string> {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** What came back for an offer: an answer, or (WHEP) an offer of the server's, which `patchAnswer` completes. */
export interface Reply extends Answer {
  readonly type: "answer" | "offer";
}

const isSdp = (response: Response): boolean =>
  /^application\/sdp\b/i.test(response.headers.get("Content-Type") ?? "");

/** Posts the offer. Throws a `SignallingError`, or the signal's reason when it was aborted. */
export async function postOffer(endpoint: Endpoint, offer: string, signal: AbortSignal): Promise<Reply> {
  const fetch_ = endpoint.fetch ?? fetch;
  let response: Response;
  let sdp: string;
  let type: Reply["type"];
  try {
    const post = (url: string | URL): Promise<Response> =>
      fetch_(url, {
        method: "POST",
        headers: { "Content-Type": "application/sdp", Accept: "application/sdp", ...authorisation(endpoint.token) },
        body: offer,
        signal,
        cache: "no-store",
        referrerPolicy: "no-referrer",
      });
    response = await post(endpoint.url);
    // Sent to another node by 307: browsers do not take the token along to another origin. The server that we trust with it chose.
    if (response.status === 401 && response.redirected && endpoint.token) response = await post(response.url);
    type = endpoint.protocol === "whep" && response.status === 406 && isSdp(response) ? "offer" : "answer";
    if (response.status !== 201 && type === "answer") throw await errorOf(response, endpoint.protocol);
    sdp = await response.text();
  } catch (thrown) {
    if (signal.aborted) throw signal.reason;
    throw asSignallingError(thrown);
  }
  const location = response.headers.get("Location");
  if (location === null) {
    throw new SignallingError("protocol", "the server's answer has no Location, so its session could never be ended");
  }
  // `url` is empty only for responses made by hand.
  const base = response.url || new URL(endpoint.url, globalThis.location?.href).href;
  const iceServers = iceServersOf(response.headers.get("Link"));
  return { type, sdp, resource: new URL(location, base).href, iceServers };
}

/** Completes the server's offer with the browser's answer. Throws as `postOffer` does. */
export async function patchAnswer(
  endpoint: Endpoint,
  resource: string,
  answer: string,
  signal: AbortSignal,
): Promise<void> {
  const fetch_ = endpoint.fetch ?? fetch;
  try {
    const response = await fetch_(resource, {
      method: "PATCH",
      headers: { "Content-Type": "application/sdp", ...authorisation(endpoint.token) },
      body: answer,
      signal,
      referrerPolicy: "no-referrer",
    });
    if (response.ok) return;
    const error = await errorOf(response, endpoint.protocol);
    // The server offered all it has of the stream, so what is missing is a decoder.
    const { message, problem, retryAfterMs, status } = error;
    throw status === 422 ? new SignallingError("undecodable", message, problem, retryAfterMs, status) : error;
  } catch (thrown) {
    if (signal.aborted) throw signal.reason;
    throw asSignallingError(thrown);
  }
}

/** Asks for an ICE restart, and gives the server's fragment. Throws a `SignallingError`. */
export async function patchFragment(endpoint: Endpoint, resource: string, fragment: string): Promise<string> {
  const fetch_ = endpoint.fetch ?? fetch;
  try {
    const response = await fetch_(resource, {
      method: "PATCH",
      headers: {
        "Content-Type": "application/trickle-ice-sdpfrag",
        "If-Match": "*",
        ...authorisation(endpoint.token),
      },
      body: fragment,
      cache: "no-store",
      referrerPolicy: "no-referrer",
    });
    if (response.status !== 200) throw await errorOf(response, endpoint.protocol);
    return await response.text();
  } catch (thrown) {
    throw asSignallingError(thrown);
  }
}

/**
 * Ends a session. Never throws: a session that cannot be ended this way dies of missing consent within seconds.
 * `keepalive` lets the request outlive the page.
 */
export async function deleteSession(endpoint: Endpoint, resource: string): Promise<void> {
  const fetch_ = endpoint.fetch ?? fetch;
  await fetch_(resource, {
    method: "DELETE",
    headers: authorisation(endpoint.token),
    keepalive: true,
    referrerPolicy: "no-referrer",
  }).catch(() => undefined);
}
