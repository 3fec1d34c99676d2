/** What the player's page says over the picture. State in, words out. */

import type { ConnectionState, LossReason, SignallingError } from "@sluice-media/client";
import { sentence } from "../ui/format";

/** The connection's states, and what is seen of the picture: `stalled` is a publisher's pause. */
export type WatchState = ConnectionState | "playing" | "stalled";

export interface Words {
  readonly headline: string;
  readonly explanation: string;
}

export interface Situation {
  readonly stream: string;
  readonly state: WatchState;
  /** A picture was shown before. */
  readonly seen: boolean;
  readonly error: SignallingError | null;
  readonly lost: LossReason | null;
  /** Until the next attempt. */
  readonly retryInMs: number | null;
  /** The page's own. */
  readonly path: string;
}

function seconds(ms: number): string {
  const left = Math.max(0, Math.ceil(ms / 1_000));
  return left <= 1 ? "in a moment" : `in ${left} s`;
}

/** `null`: nothing, there is a picture. */
export function words(now: Situation): Words | null {
  switch (now.state) {
    case "playing":
      return null;
    case "stalled":
      return {
        headline: "The publisher has paused",
        explanation: "The picture goes on by itself as soon as it comes back.",
      };
    case "interrupted":
      return {
        headline: "The connection is interrupted",
        explanation: "The server does not answer on this path. Another one is being looked for.",
      };
    case "offline":
      return { headline: `${now.stream} is not live yet`, explanation: "It starts here by itself as soon as it is." };
    case "waiting":
      return waiting(now);
    case "failed":
      return { headline: failure(now), explanation: advice(now) };
    case "closed":
      return { headline: "Stopped", explanation: "" };
    default:
      return { headline: now.seen ? "Reconnecting…" : "Connecting…", explanation: "" };
  }
}

function waiting({ error, lost, retryInMs, seen }: Situation): Words {
  if (error?.kind === "undecodable") {
    return {
      headline: "This browser cannot play it",
      explanation: `${sentence(error.message)} It plays here by itself as soon as the publisher sends something else.`,
    };
  }
  const again = retryInMs === null ? "" : `Trying again ${seconds(retryInMs)}.`;
  const why = error ? sentence(error.message) : lost ? LOSSES[lost] : "";
  return { headline: seen ? "The connection was lost" : "No connection", explanation: `${why} ${again}`.trim() };
}

const LOSSES: Readonly<Record<LossReason, string>> = {
  "closed-by-server": "The server ended the session.",
  network: "The server does not answer any more.",
  unreachable: "The server answered, but its media port cannot be reached.",
  "transport-failed": "The encrypted connection could not be made.",
  "asked-to-reconnect": "The server moves its viewers.",
};

function failure({ error }: Situation): string {
  switch (error?.kind) {
    case "unauthorised":
      return "This stream needs a token";
    case "forbidden":
      return "This token may not watch here";
    case "unsupported":
      return "This browser cannot play it";
    default:
      return "This cannot be played";
  }
}

function advice({ error, path }: Situation): string {
  const said = error ? sentence(error.message) : "";
  if (error?.kind !== "unauthorised") return said;
  return `${said} Open the page as ${path}?token=… with one that has the subscribe right.`;
}
