/** What a publisher's encoder is asked for: codec, sizes, bitrates. Figures in, WebRTC dictionaries out. */

export type VideoCodec = "H264" | "VP8" | "VP9" | "AV1";

/** What Sluice takes and browsers send, the most widely playable first. */
export const VIDEO_CODECS: readonly VideoCodec[] = ["H264", "VP8", "VP9", "AV1"];

/** The codecs that this browser can send and Sluice takes; empty where it does not say. */
export function sendableCodecs(
  capabilities: Pick<RTCRtpCapabilities, "codecs"> | null = globalThis.RTCRtpSender?.getCapabilities?.("video") ?? null,
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

export interface EncodingLimits {
  /** Of the source's pictures, in pixels, when known. */
  readonly height?: number | undefined;
  readonly maxHeight?: number | undefined;
  readonly maxFps?: number | undefined;
  /** For the largest size; `null`: the browser's own limits. */
  readonly kbps: number | null;
}

/** Names of simulcast encodings (RFC 8852): high, medium, low. */
const RIDS = ["h", "m", "l"] as const;
/** W3C webrtc-svc adds to the dictionary; browsers that do not know it look past it. */
export type Encoding = RTCRtpEncodingParameters & { scalabilityMode?: string };

/** Smaller pictures than this are nobody's choice. */
const SMALLEST_HEIGHT = 135;
/** A picture of half the height has a quarter of the pixels, and needs a little more than a quarter of the bits. */
const BITRATE_STEP = 0.3;

/**
 * One encoding, or up to `count` of them, each half as high as the one before, the smallest first, as browsers like it; named when there are
 * several.
 */
export function encodingsFor(limits: EncodingLimits, count: number): Encoding[] {
  const { height, maxHeight, maxFps, kbps } = limits;
  const scale = scaleFor(height, maxHeight);
  const sent = height === undefined ? undefined : height / scale;
  const steps = Array.from({ length: count }, (_, step) => step).filter(
    (step) => step === 0 || sent === undefined || sent / 2 ** step >= SMALLEST_HEIGHT,
  );
  return steps
    .map((step) => ({
      // Without a mode, Chromium sends VP9 and AV1 as one stream of stacked layers, whatever the names say.
      ...(steps.length > 1 && { rid: RIDS[step] ?? String(step), scalabilityMode: "L1T1" }),
      scaleResolutionDownBy: scale * 2 ** step,
      ...(kbps !== null && { maxBitrate: Math.round(kbps * 1000 * BITRATE_STEP ** step) }),
      ...(maxFps !== undefined && { maxFramerate: maxFps }),
    }))
    .reverse();
}
