/** The life of a session after its answer, the same for WHIP and WHEP: until it is stopped here or lost. */

import { observePeer, type PeerObserver } from "./peer";
import { deleteSession, type Endpoint } from "./signalling";

/** How long the server gets to take a DELETE before the connection is closed all the same. */
const DELETE_PATIENCE_MS = 1_000;

/** Returns the way to stop it on both sides, which may be called twice. After a loss nothing is left to stop. */
export function holdSession(
  pc: RTCPeerConnection,
  endpoint: Endpoint,
  resource: string,
  observer: Partial<PeerObserver>,
): () => void {
  let open = true;
  const stopObserving = observePeer(pc, {
    onConnected: () => observer.onConnected?.(),
    onLost: (reason) => {
      open = false;
      pc.close();
      if (reason !== "closed-by-server") void deleteSession(endpoint, resource);
      observer.onLost?.(reason);
    },
  });
  return () => {
    if (!open) return;
    open = false;
    stopObserving();
    // In this order: closing the connection tells the server by DTLS, and it would not know the session of the DELETE.
    const timer = setTimeout(() => pc.close(), DELETE_PATIENCE_MS);
    void deleteSession(endpoint, resource).then(() => {
      clearTimeout(timer);
      pc.close();
    });
  };
}
