/** What the player's page tells of what it shows. Statistics in, words out. */

import type { Transport, ViewerStats } from "@sluice-media/client";
import type { Figure } from "../ui/dom";
import { bitrate, framesPerSecond, milliseconds, percent, size, UNKNOWN } from "../ui/format";

export interface Shown {
  readonly transport: Transport | null;
  /** Of WebRTC; HLS has none. */
  readonly stats: ViewerStats | null;
  /** Of the video element, in pixels. */
  readonly width: number | null;
  readonly height: number | null;
  /** Glass to glass; `null` where the picture has no clock. */
  readonly clockMs: number | null;
  readonly freezes: number;
  readonly firstFrameMs: number | null;
  readonly reconnects: number;
}

export const TRANSPORTS: Readonly<Record<Transport, string>> = { webrtc: "WebRTC", hls: "HLS" };

export function figures(shown: Shown): Figure[] {
  const { transport, stats, clockMs } = shown;
  return [
    {
      key: "transport",
      label: "Comes by",
      value: transport === null ? UNKNOWN : TRANSPORTS[transport],
      hint: "HLS takes over where WebRTC finds no way through the network, some seconds later; WebRTC is tried again meanwhile.",
    },
    {
      key: "latency",
      label: "Delay (estimate)",
      value: milliseconds(stats?.latencyMs ?? null),
      hint: "Half the round trip, plus jitter buffer and decoder. The publisher’s own way to the server is not in it.",
    },
    ...(clockMs === null
      ? []
      : [
          {
            key: "clock",
            label: "Glass to glass",
            value: milliseconds(clockMs),
            hint: "Read from the test pattern’s clock; true when both computers’ clocks agree.",
          },
        ]),
    { key: "resolution", label: "Resolution", value: size(stats?.width ?? shown.width, stats?.height ?? shown.height) },
    { key: "fps", label: "Frame rate", value: framesPerSecond(stats?.fps ?? null) },
    { key: "bitrate", label: "Bitrate", value: bitrate(stats?.kbps ?? null) },
    { key: "codec", label: "Codec", value: [stats?.codec, stats?.audioCodec].filter(Boolean).join(" + ") || UNKNOWN },
    { key: "loss", label: "Loss", value: percent(stats?.lossPercent ?? null), bad: (stats?.lossPercent ?? 0) > 2 },
    { key: "rtt", label: "Round trip", value: milliseconds(stats?.rttMs ?? null) },
    { key: "jitter", label: "Jitter buffer", value: milliseconds(stats?.jitterBufferMs ?? null) },
    { key: "decode", label: "Decoder", value: milliseconds(stats?.decodeMs ?? null) },
    { key: "freezes", label: "Freezes", value: String(shown.freezes), bad: shown.freezes > 0 },
    { key: "dropped", label: "Dropped frames", value: String(stats?.framesDropped ?? 0) },
    { key: "first", label: "First picture after", value: milliseconds(shown.firstFrameMs) },
    { key: "reconnects", label: "Reconnects", value: String(shown.reconnects) },
  ];
}
