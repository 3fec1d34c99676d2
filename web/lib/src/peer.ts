/** Watches a peer connection and says that it is connected, that its path is interrupted, and that it is lost, and why. */

export type LossReason =
  /** The server closed the DTLS association, or knows the session no more: kicked, replaced, token expired, or it is stopping. */
  | "closed-by-server"
  /** Connectivity checks go unanswered and a restart did not help: the network is down, or the server is gone. */
  | "network"
  /** It never came up. */
  | "unreachable"
  /** DTLS broke: a fingerprint or a certificate does not match. */
  | "transport-failed"
  /** The server asked for another session (`reconnect` event). */
  | "asked-to-reconnect";

export interface PeerObserver {
  /** At first, and again after each interruption. */
  onConnected(): void;
  /** The path does not answer: an ICE restart may bring another one. Lost when none comes up in time. */
  onInterrupted(): void;
  /** Once; nothing is said after it. */
  onLost(reason: LossReason): void;
}

/** Browsers call a peer "disconnected" after some seconds of silence; an ICE restart takes a few round trips. */
const INTERRUPTED_PATIENCE_MS = 6_000;
/** ICE and DTLS take a few round trips; a path that has not answered by now is blocked. */
const CONNECT_PATIENCE_MS = 8_000;

/** As `connectionState` would say it, for browsers that have `iceConnectionState` only. */
const BY_ICE: Readonly<Record<RTCIceConnectionState, RTCPeerConnectionState>> = {
  new: "new",
  checking: "connecting",
  connected: "connected",
  completed: "connected",
  disconnected: "disconnected",
  failed: "failed",
  closed: "closed",
};

export interface PeerWatch {
  /** Call it before closing the connection oneself. */
  stop(): void;
  /** Gives a connection that has not come up yet its whole time again: it is tried in another way now. */
  startOver(): void;
}

export function observePeer(pc: RTCPeerConnection, observer: PeerObserver): PeerWatch {
  const controller = new AbortController();
  const { signal } = controller;
  let connected = false;
  let interrupted = false;
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

  const interrupt = (): void => {
    // "failed" after "disconnected" is the same interruption, and no reason to wait longer.
    if (interrupted) return;
    interrupted = true;
    patience(INTERRUPTED_PATIENCE_MS, "network");
    observer.onInterrupted();
  };

  const update = (): void => {
    observeTransports();
    if (signal.aborted) return;
    switch (pc.connectionState ?? BY_ICE[pc.iceConnectionState]) {
      case "connected":
        clearTimeout(timer);
        if (connected && !interrupted) break;
        connected = true;
        interrupted = false;
        observer.onConnected();
        break;
      case "disconnected":
        if (connected) interrupt();
        break;
      case "failed":
        if (connected) interrupt();
        else lose("unreachable");
        break;
      case "closed":
        lose("closed-by-server");
        break;
    }
  };

  pc.addEventListener("connectionstatechange", update, { signal });
  pc.addEventListener("iceconnectionstatechange", update, { signal });
  patience(CONNECT_PATIENCE_MS, "unreachable");
  update();
  return {
    stop,
    startOver: () => {
      if (!connected && !signal.aborted) patience(CONNECT_PATIENCE_MS, "unreachable");
    },
  };
}
