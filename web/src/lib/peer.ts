/** Watches a peer connection and says, once each, that it is connected and that it is lost, and why. */

export type LossReason =
  /** The server closed the DTLS association: kicked, replaced, token expired, or it is stopping. */
  | "closed-by-server"
  /** Connectivity checks go unanswered: the network changed, or the server is gone. */
  | "network"
  /** It never came up. */
  | "unreachable"
  /** DTLS broke: a fingerprint or a certificate does not match. */
  | "transport-failed";

export interface PeerObserver {
  onConnected(): void;
  /** Checks go unanswered for some seconds; it may come back by itself, or by an ICE restart. */
  onInterrupted(): void;
  onLost(reason: LossReason): void;
}

/** A "disconnected" peer comes back by itself or by an ICE restart within this time; a new session costs less than waiting longer. */
const DISCONNECTED_PATIENCE_MS = 3_000;
/** ICE and DTLS take a few round trips; a path that has not answered by now is blocked. */
const CONNECT_PATIENCE_MS = 8_000;

export interface Observation {
  /** To be called before closing the connection oneself. */
  stop(): void;
  /** Says that it is lost, for a reason that the connection itself cannot see. */
  lose(reason: LossReason): void;
}

export function observePeer(pc: RTCPeerConnection, observer: PeerObserver): Observation {
  const controller = new AbortController();
  const { signal } = controller;
  let connected = false;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const stop = (): void => {
    clearTimeout(timer);
    controller.abort();
  };
  const lose = (reason: LossReason): void => {
    if (signal.aborted) return;
    stop();
    observer.onLost(reason);
  };
  const patience = (ms: number, reason: LossReason): void => {
    clearTimeout(timer);
    timer = setTimeout(() => lose(reason), ms);
  };

  // The aggregate `connectionState` stays "connected" when the other side closes DTLS: the transports themselves tell.
  const observed = new Set<RTCDtlsTransport>();
  const observeTransports = (): void => {
    for (const part of [...pc.getSenders(), ...pc.getReceivers()]) {
      const { transport } = part;
      if (!transport || observed.has(transport)) continue;
      observed.add(transport);
      const check = (): void => {
        if (transport.state === "closed") lose("closed-by-server");
        else if (transport.state === "failed") lose("transport-failed");
      };
      transport.addEventListener("statechange", check, { signal });
      check();
    }
  };

  const update = (): void => {
    observeTransports();
    switch (pc.connectionState) {
      case "connected":
        clearTimeout(timer);
        if (!connected) {
          connected = true;
          observer.onConnected();
        }
        break;
      case "disconnected":
        patience(DISCONNECTED_PATIENCE_MS, "network");
        observer.onInterrupted();
        break;
      case "failed":
        lose(connected ? "network" : "unreachable");
        break;
      case "closed":
        lose("closed-by-server");
        break;
    }
  };

  pc.addEventListener("connectionstatechange", update, { signal });
  patience(CONNECT_PATIENCE_MS, "unreachable");
  update();
  return { stop, lose };
}
