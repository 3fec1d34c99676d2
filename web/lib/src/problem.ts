/**
 * What can go wrong in signalling, as one typed error.
 *
 * A refusal by the server carries its `application/problem+json` (RFC 9457); an answer that makes no sense and a
 * network that does not answer are told apart from it, because only some of them are worth another try.
 */

/** RFC 9457, section 3.1; `detail` is fit to be shown to a person. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
}

export type ErrorKind =
  /** 409 from WHEP: nobody publishes the stream now. */
  | "not-live"
  /** 406 from WHEP, or 422 to the answer of its counter-offer: no decoder for what is published now; another publisher may send something else. */
  | "undecodable"
  /** 409 from WHIP: the stream has a publisher, and the server lets it stay. */
  | "conflict"
  /** 401: no token, or a bad or expired one. */
  | "unauthorised"
  /** 403: a good token that may not do this. */
  | "forbidden"
  /** 404: no such stream, or no such session any more. */
  | "not-found"
  /** Another 4xx: asking the same again gives the same answer. */
  | "refused"
  /** 429 or 5xx: the server is full, stopping or broken. */
  | "unavailable"
  /** No HTTP answer at all. */
  | "network"
  /** The server ended a publisher's session, and goes on without it: taken over, ended by an operator, or its token expired. */
  | "ended"
  /** Media could not be exchanged for longer than was to be tried (`reconnect.attemptsMax`). */
  | "unreachable"
  /** The browser has no WebRTC. */
  | "unsupported"
  /** An answer that breaks WHIP's or WHEP's rules. */
  | "protocol";

/** Every failure of this library. `message` is fit to be shown to a person, and holds no token and no session's URL. */
export class SignallingError extends Error {
  override readonly name = "SignallingError";

  constructor(
    readonly kind: ErrorKind,
    message: string,
    /** What the server said, when it said it as a problem document. */
    readonly problem: Problem | null = null,
    /** The server's wish (`Retry-After`), in ms. */
    readonly retryAfterMs: number | null = null,
    /** HTTP status; 0 without an answer. */
    readonly status = problem?.status ?? 0,
  ) {
    super(message);
  }

  /** Whether the same request may succeed later without anybody changing it. */
  get isTransient(): boolean {
    if (this.kind === "conflict") return this.retryAfterMs !== null;
    return ["not-live", "undecodable", "unavailable", "network"].includes(this.kind);
  }
}

/** Who is asked: the same status means different things there. */
export type Asked = "whip" | "whep" | "session" | "api";

/** `Retry-After` (RFC 9110, section 10.2.3): seconds or a date; `null` when absent or neither. */
export function retryAfterMs(field: string | null, nowMs: number): number | null {
  if (field === null) return null;
  if (/^\s*\d+\s*$/.test(field)) return Number(field) * 1000;
  const date = Date.parse(field);
  return Number.isNaN(date) ? null : Math.max(0, date - nowMs);
}

function kindOf(status: number, asked: Asked): ErrorKind {
  if (status === 401) return "unauthorised";
  if (status === 403) return "forbidden";
  if (status === 404) return "not-found";
  if (status === 406 && asked === "whep") return "undecodable";
  if (status === 409 && asked === "whep") return "not-live";
  if (status === 409) return "conflict";
  if (status === 429 || status >= 500) return "unavailable";
  return status >= 400 ? "refused" : "protocol";
}

/** Reads a response that is not the hoped-for one. Never throws; a body that is no problem document is not shown. */
export async function errorOf(response: Response, asked: Asked, nowMs = Date.now()): Promise<SignallingError> {
  const { status } = response;
  let problem: Problem | null = null;
  if (/^application\/(problem\+)?json\b/i.test(response.headers.get("Content-Type") ?? "")) {
    const body: unknown = await response.json().catch(() => null);
    if (typeof body === "object" && body !== null) {
      const text = (key: string): string => {
        const value: unknown = Reflect.get(body, key);
        return typeof value === "string" ? value : "";
      };
      problem = { type: text("type") || "about:blank", title: text("title"), status, detail: text("detail") };
    }
  }
  const message = problem?.detail || problem?.title || `the server answered ${status} ${response.statusText}`.trim();
  const retry = retryAfterMs(response.headers.get("Retry-After"), nowMs);
  return new SignallingError(kindOf(status, asked), message, problem, retry, status);
}

/** Whatever was thrown, as a `SignallingError`. */
export function asSignallingError(thrown: unknown): SignallingError {
  if (thrown instanceof SignallingError) return thrown;
  // `fetch` throws a TypeError for everything below HTTP, and says no more for privacy's sake.
  if (thrown instanceof TypeError) return new SignallingError("network", "the server cannot be reached");
  return new SignallingError("protocol", thrown instanceof Error ? thrown.message : String(thrown));
}
