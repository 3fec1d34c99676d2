/** The life of a session after its answer, the same for WHIP and WHEP: until it is stopped here or lost. */

import { observePeer, type LossReason } from "./peer";
import { asSignallingError } from "./problem";
import { restartIce } from "./restart";
import { deleteSession, type Endpoint } from "./signalling";

/** How long the server gets to take a DELETE before the connection is closed all the same. */
const DELETE_PATIENCE_MS = 1_000;

export interface Session {
  /** Ends it on both sides; may be called twice. After a loss nothing is left to end. */
  stop(): void;
  /** Moves it to new addresses while its media goes on; an interrupted session does so by itself. */
  restartIce(): Promise<void>;
}

export interface SessionObserver {
  onConnected?(): void;
  onLost?(reason: LossReason): void;
}

/** What the session was opened with. */
export interface Opening {
  /** What was done to the offer's text. */
  tune(offer: string): string;
  /** STUN and TURN servers came with the answer, too late for the first offer's candidates. */
  readonly relays: Relays;
}

/** Whether there are servers to fall back on, and whether nothing else may be used. */
export type Relays = "none" | "at-need" | "only";

/**
 * How long the server's own addresses get before the relays are asked, too. They are not asked at once: that would cost
 * every viewer of a server with relays a round trip, and nearly all reach it directly, by UDP or TCP.
 */
const DIRECT_PATIENCE_MS = 1_000;

/** Gives the connection the servers that came with the answer, unless the caller has chosen some. */
export function takeServers(
  pc: RTCPeerConnection,
  configuration: RTCConfiguration,
  iceServers: readonly RTCIceServer[],
): Relays {
  if (iceServers.length === 0 || configuration.iceServers !== undefined) return "none";
  pc.setConfiguration({ ...configuration, iceServers: [...iceServers] });
  return configuration.iceTransportPolicy === "relay" ? "only" : "at-need";
}

export function holdSession(
  pc: RTCPeerConnection,
  endpoint: Endpoint,
  resource: string,
  observer: SessionObserver,
  { tune, relays }: Opening,
): Session {
  let open = true;
  let restarting: Promise<void> | null = null;
  const restart = (): Promise<void> => {
    restarting ??= restartIce(pc, endpoint, resource, tune).finally(() => (restarting = null));
    return restarting;
  };
  // Candidates of servers are gathered by a restart. That it fails shows soon enough: the connection does not come up.
  const direct = relays === "only" ? 0 : DIRECT_PATIENCE_MS;
  const relaying =
    relays === "none" ? undefined : setTimeout(() => void restart().catch(() => undefined), direct);
  const observation = observePeer(pc, {
    onConnected: () => {
      clearTimeout(relaying);
      observer.onConnected?.();
    },
    onInterrupted: () => {
      restart().catch((thrown: unknown) => {
        // What the server refuses now it will not take later; a network that is away may come back in time.
        if (asSignallingError(thrown).kind !== "network") observation.lose("network");
      });
    },
    onLost: (reason) => {
      open = false;
      clearTimeout(relaying);
      pc.close();
      if (reason !== "closed-by-server") void deleteSession(endpoint, resource);
      observer.onLost?.(reason);
    },
  });
  const stop = (): void => {
    if (!open) return;
    open = false;
    clearTimeout(relaying);
    observation.stop();
    // In this order: closing the connection tells the server by DTLS, and it would not know the session of the DELETE.
    const timer = setTimeout(() => pc.close(), DELETE_PATIENCE_MS);
    void deleteSession(endpoint, resource).then(() => {
      clearTimeout(timer);
      pc.close();
    });
  };
  return { stop, restartIce: restart };
}
