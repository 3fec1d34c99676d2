/** One WHIP session: sends a `MediaStream`'s video and audio to a stream. */

import type { LossReason } from "./peer";
import { setFormatParameters } from "./sdp";
import { holdSession, takeServers } from "./session";
import { deleteSession, postOffer, type Endpoint } from "./signalling";

export type VideoCodec = "H264" | "VP8" | "VP9" | "AV1";

/** What Sluice takes, the most widely playable first. */
export const VIDEO_CODECS: readonly VideoCodec[] = ["H264", "VP8", "VP9", "AV1"];

export interface PublishOptions {
  /** The WHIP endpoint, `/whip/{stream}`. */
  readonly url: string | URL;
  readonly token?: string | null;
  /** At most one video and one audio track are sent. */
  readonly media: MediaStream;
  readonly codec?: VideoCodec;
  /** What the encoder may use; the network may allow less. Unset: the browser's own limit (about 2.5 Mb/s at 720p). */
  readonly videoKbps?: number;
  readonly audioKbps?: number;
  /** Pictures are scaled down to this height, if higher. */
  readonly maxHeight?: number;
  readonly maxFps?: number;
  /** What to give up when the network or the processor is short. */
  readonly degradation?: RTCDegradationPreference;
  readonly signal?: AbortSignal;
  /** With `iceServers` of its own those that the server names are not used. */
  readonly configuration?: RTCConfiguration;
  onConnected?(): void;
  /** Called once, when the session ends in any way but `stop()`. */
  onLost?(reason: LossReason): void;
  /** For tests. */
  readonly fetch?: typeof fetch;
  readonly createPeer?: (configuration: RTCConfiguration) => RTCPeerConnection;
}

export interface PublishSession {
  readonly pc: RTCPeerConnection;
  /** The session's URL. Who knows it can end the session: not for logs. */
  readonly resource: string;
  /** Changes the video's limit while live. */
  setVideoKbps(kbps: number | null): Promise<void>;
  /** Swaps a track of the same kind without a new session. */
  replaceTrack(track: MediaStreamTrack): Promise<void>;
  /** Moves it to new addresses while its media goes on; an interrupted session does so by itself. */
  restartIce(): Promise<void>;
  /** Ends it on both sides; the tracks stay the caller's. Safe to call twice, and while the page goes away. */
  stop(): void;
}

/** The codecs that this browser can send and Sluice takes. */
export function sendableCodecs(
  capabilities: Pick<RTCRtpCapabilities, "codecs"> | null = RTCRtpSender.getCapabilities("video"),
): VideoCodec[] {
  const have = new Set((capabilities?.codecs ?? []).map(({ mimeType }) => mimeType.toLowerCase()));
  return VIDEO_CODECS.filter((codec) => have.has(`video/${codec.toLowerCase()}`));
}

/** The chosen codec in all its profiles, with retransmission; nothing else, so the answer cannot choose another. */
export function preferenceFor<C extends { mimeType: string }>(codecs: readonly C[], codec: VideoCodec): C[] {
  const wanted = [`video/${codec}`, "video/rtx"].map((type) => type.toLowerCase());
  return codecs.filter(({ mimeType }) => wanted.includes(mimeType.toLowerCase()));
}

/** How much a picture is to be shrunk to be no higher than asked. */
export function scaleFor(height: number | undefined, maxHeight: number | undefined): number {
  return height && maxHeight && height > maxHeight ? height / maxHeight : 1;
}

/** Opens a session. Throws a `SignallingError` when refused; nothing is left open then. */
export async function publish(options: PublishOptions): Promise<PublishSession> {
  const endpoint: Endpoint = {
    url: options.url,
    protocol: "whip",
    token: options.token ?? null,
    ...(options.fetch && { fetch: options.fetch }),
  };
  const signal = options.signal ?? new AbortController().signal;
  const createPeer = options.createPeer ?? ((configuration) => new RTCPeerConnection(configuration));
  const configuration: RTCConfiguration = { bundlePolicy: "max-bundle", ...options.configuration };
  const pc = createPeer(configuration);
  let resource: string | null = null;
  try {
    const { video } = addTracks(pc, options);
    const offer = await pc.createOffer();
    const tune = (text: string): string => setFormatParameters(text, "opus", { stereo: 1, "sprop-stereo": 1 });
    const sdp = tune(offer.sdp ?? "");
    const [answer] = await Promise.all([
      postOffer(endpoint, sdp, signal),
      pc.setLocalDescription({ type: "offer", sdp }),
    ]);
    resource = answer.resource;
    const relays = takeServers(pc, configuration, answer.iceServers);
    await pc.setRemoteDescription({ type: "answer", sdp: tuneAnswer(answer.sdp, options) });
    signal.throwIfAborted();

    const session = holdSession(pc, endpoint, resource, options, { tune, relays });
    return {
      pc,
      resource,
      setVideoKbps: async (kbps) => void (await (video && limitBitrate(video, kbps))),
      replaceTrack: async (track) => {
        await pc
          .getSenders()
          .find((sender) => sender.track?.kind === track.kind)
          ?.replaceTrack(track);
      },
      ...session,
    };
  } catch (thrown) {
    pc.close();
    if (resource !== null) void deleteSession(endpoint, resource);
    throw thrown;
  }
}

/** The most that is sent before the network was measured: a good picture at once, and no flood where there is less. */
const START_KBPS_MAX = 1_500;

/**
 * What this side may do, which browsers read from the other side's answer.
 *
 * Stereo: the server takes it whether or not its answer says so; Chromium sends it only when the answer does. Start
 * bitrate: Chromium begins at 300 kb/s, shrinks the picture to that, and takes ten seconds and more to let it grow again;
 * `x-google-start-bitrate` is its own parameter, and other browsers ignore it.
 */
function tuneAnswer(sdp: string, { codec, videoKbps }: PublishOptions): string {
  const stereo = setFormatParameters(sdp, "opus", { stereo: 1 });
  if (!codec || !videoKbps) return stereo;
  return setFormatParameters(stereo, codec, { "x-google-start-bitrate": Math.min(videoKbps, START_KBPS_MAX) });
}

function addTracks(pc: RTCPeerConnection, options: PublishOptions): { video: RTCRtpSender | null } {
  const { media } = options;
  const videoTrack = media.getVideoTracks()[0];
  const audioTrack = media.getAudioTracks()[0];
  let video: RTCRtpSender | null = null;
  if (videoTrack) {
    const encoding: RTCRtpEncodingParameters = {
      scaleResolutionDownBy: scaleFor(videoTrack.getSettings().height, options.maxHeight),
      ...(options.videoKbps && { maxBitrate: options.videoKbps * 1000 }),
      ...(options.maxFps && { maxFramerate: options.maxFps }),
    };
    const transceiver = pc.addTransceiver(videoTrack, {
      direction: "sendonly",
      streams: [media],
      sendEncodings: [encoding],
    });
    const capabilities = options.codec && RTCRtpSender.getCapabilities("video");
    if (options.codec && capabilities) {
      transceiver.setCodecPreferences(preferenceFor(capabilities.codecs, options.codec));
    }
    video = transceiver.sender;
    if (options.degradation) {
      const parameters = video.getParameters() as RTCRtpSendParameters & { degradationPreference?: string };
      parameters.degradationPreference = options.degradation;
      // Only a preference: a browser that does not know it sends all the same.
      void video.setParameters(parameters).catch(() => undefined);
    }
  }
  if (audioTrack) {
    pc.addTransceiver(audioTrack, {
      direction: "sendonly",
      streams: [media],
      sendEncodings: [{ maxBitrate: (options.audioKbps ?? 128) * 1000 }],
    });
  }
  return { video };
}

async function limitBitrate(sender: RTCRtpSender, kbps: number | null): Promise<void> {
  const parameters = sender.getParameters();
  for (const encoding of parameters.encodings) {
    if (kbps === null) delete encoding.maxBitrate;
    else encoding.maxBitrate = kbps * 1000;
  }
  await sender.setParameters(parameters);
}
