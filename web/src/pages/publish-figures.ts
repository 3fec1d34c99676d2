/** What a publisher's page tells of what it sends. Statistics in, words out. */

import type { PublisherStats } from "@sluice-media/client";
import type { Figure } from "../ui/dom";
import { bitrate, duration, framesPerSecond, milliseconds, percent, size } from "../ui/format";

const LIMITS: Readonly<Record<string, string>> = {
  none: "nothing",
  cpu: "processor",
  bandwidth: "network",
  other: "other",
};

/** `liveForMs`: `null` before anything could flow. */
export function figures(stats: PublisherStats, liveForMs: number | null): Figure[] {
  const limit = stats.limitedBy ?? "none";
  return [
    { key: "bitrate", label: "Video", value: bitrate(stats.videoKbps) },
    { key: "audio", label: "Sound", value: bitrate(stats.audioKbps) },
    { key: "resolution", label: "Resolution", value: size(stats.width, stats.height) },
    { key: "fps", label: "Frame rate", value: framesPerSecond(stats.fps) },
    { key: "rtt", label: "Round trip", value: milliseconds(stats.rttMs) },
    { key: "loss", label: "Loss", value: percent(stats.lossPercent), bad: (stats.lossPercent ?? 0) > 2 },
    {
      key: "limit",
      label: "Held back by",
      value: LIMITS[limit] ?? limit,
      bad: limit !== "none",
      hint: "What keeps the encoder from the chosen quality",
    },
    { key: "available", label: "Network takes", value: bitrate(stats.availableKbps) },
    { key: "codec", label: "Codec", value: [stats.codec, stats.audioCodec].filter(Boolean).join(" + ") || "–" },
    {
      key: "encoder",
      label: "Encoder",
      value: stats.encoder ? `${stats.encoder}, ${milliseconds(stats.encodeMs)}` : "–",
    },
    ...(liveForMs === null ? [] : [{ key: "since", label: "Live for", value: duration(liveForMs) }]),
  ];
}
