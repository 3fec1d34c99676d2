/** One WHEP session: asks for a stream's audio and video, and hands out a `MediaStream`. For one that comes back by itself see `player.ts`. */

import type { LossReason } from "./peer";
import { setFormatParameters } from "./sdp";
import { holdSession, takeServers } from "./session";
import { deleteSession, patchAnswer, postOffer, type Endpoint } from "./signalling";

export interface WatchOptions {
  /** The WHEP endpoint, `/whep/{stream}`. */
  readonly url: string | URL;
  readonly token?: string | null;
  /** Aborts the opening; a session that is open is ended by `stop()`. */
  readonly signal?: AbortSignal;
  /** With `iceServers` of its own those that the server names are not used. */
  readonly configuration?: RTCConfiguration;
  onTrack?(track: MediaStreamTrack, stream: MediaStream): void;
  onConnected?(): void;
  /** Called once, when the session ends in any way but `stop()`. */
  onLost?(reason: LossReason): void;
  /** For tests. */
  readonly fetch?: typeof fetch;
  readonly createPeer?: (configuration: RTCConfiguration) => RTCPeerConnection;
}

export interface WatchSession {
  readonly pc: RTCPeerConnection;
  /** Gets the tracks as they come. */
  readonly stream: MediaStream;
  /** The session's URL. Who knows it can end the session: not for logs. */
  readonly resource: string;
  /** `performance.now()` when the offer was posted and when the answer was there. */
  readonly postedAtMs: number;
  readonly answeredAtMs: number;
  /** Moves it to new addresses while its media goes on; an interrupted session does so by itself. */
  restartIce(): Promise<void>;
  /** Ends it on both sides. Safe to call twice, and while the page goes away. */
  stop(): void;
}

/** Asks the browser to show pictures as soon as they are complete. */
function lowDelay(receiver: RTCRtpReceiver): void {
  // The standard's name first; Chromium before 124 knows the second only. Each is ignored where it is unknown.
  Object.assign(receiver, { jitterBufferTarget: 0, playoutDelayHint: 0 });
}

/** Opens a session. Throws a `SignallingError` when refused; nothing is left open then. */
export async function watch(options: WatchOptions): Promise<WatchSession> {
  const endpoint: Endpoint = {
    url: options.url,
    protocol: "whep",
    token: options.token ?? null,
    ...(options.fetch && { fetch: options.fetch }),
  };
  const signal = options.signal ?? new AbortController().signal;
  const createPeer = options.createPeer ?? ((configuration) => new RTCPeerConnection(configuration));
  const configuration: RTCConfiguration = { bundlePolicy: "max-bundle", ...options.configuration };
  const stream = new MediaStream();
  const open = (): RTCPeerConnection => {
    const pc = createPeer(configuration);
    pc.addEventListener("track", (event) => {
      lowDelay(event.receiver);
      stream.addTrack(event.track);
      options.onTrack?.(event.track, stream);
    });
    return pc;
  };
  let pc = open();
  let resource: string | null = null;
  try {
    for (const kind of ["video", "audio"] as const) {
      lowDelay(pc.addTransceiver(kind, { direction: "recvonly", streams: [stream] }).receiver);
    }
    const offer = await pc.createOffer();
    const tune = (text: string): string => setFormatParameters(text, "opus", { stereo: 1 });
    const sdp = tune(offer.sdp ?? "");
    // Set and posted at once: the answer's round trip runs while the browser prepares itself.
    const postedAtMs = performance.now();
    const set = pc.setLocalDescription({ type: "offer", sdp });
    const posted = postOffer(endpoint, sdp, signal);
    const [reply] = await Promise.all([posted, set]);
    resource = reply.resource;
    const answeredAtMs = performance.now();
    if (reply.type === "offer") {
      // A fresh connection: rolling the first one's offer back would leave its transceivers unused beside the new ones.
      pc.close();
      pc = open();
    }
    const relays = takeServers(pc, configuration, reply.iceServers);
    await pc.setRemoteDescription({ type: reply.type, sdp: reply.sdp });
    if (reply.type === "offer") {
      const answer = tune((await pc.createAnswer()).sdp ?? "");
      await pc.setLocalDescription({ type: "answer", sdp: answer });
      await patchAnswer(endpoint, resource, answer, signal);
    }
    signal.throwIfAborted();

    const session = holdSession(pc, endpoint, resource, options, { tune, relays });
    return { pc, stream, resource, postedAtMs, answeredAtMs, ...session };
  } catch (thrown) {
    pc.close();
    if (resource !== null) void deleteSession(endpoint, resource);
    throw thrown;
  }
}
