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

/** `tune` is what was done to the offer's text. */
export function holdSession(
  pc: RTCPeerConnection,
  endpoint: Endpoint,
  resource: string,
  observer: SessionObserver,
  tune: (offer: string) => string,
): Session {
  let open = true;
  let restarting: Promise<void> | null = null;
  const restart = (): Promise<void> => {
    restarting ??= restartIce(pc, endpoint, resource, tune).finally(() => (restarting = null));
    return restarting;
  };
  const observation = observePeer(pc, {
    onConnected: () => observer.onConnected?.(),
    onInterrupted: () => {
      restart().catch((thrown: unknown) => {
        // What the server refuses now it will not take later; a network that is away may come back in time.
        if (asSignallingError(thrown).kind !== "network") observation.lose("network");
      });
    },
    onLost: (reason) => {
      open = false;
      pc.close();
      if (reason !== "closed-by-server") void deleteSession(endpoint, resource);
      observer.onLost?.(reason);
    },
  });
  const stop = (): void => {
    if (!open) return;
    open = false;
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
