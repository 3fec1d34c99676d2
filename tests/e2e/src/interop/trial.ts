// What every client is held to: two seconds of pictures and sound, decoded by Chromium when it publishes.

import type { Server } from "../support/server.ts";
import type { Stage } from "../support/stage.ts";
import { whip } from "../support/ffmpeg.ts";
import { until } from "../support/wait.ts";
import * as table from "./table.ts";

/** Two seconds of pictures and of sound. */
export const PICTURES_MIN = 60;
export const SOUNDS_MIN = 100;
/** A twentieth of what the quietest of the clients hums. */
export const ENERGY_MIN = 0.0005;

export interface Client {
  client: string;
  version: string;
}

/** What a program that plays prints at its end. */
export interface Played {
  video: { codec: string; units: number };
  audio: { codec: string; units: number; energy: number };
  left: number;
}

export function name(mimeType: string | undefined): string {
  const codec = mimeType?.replace(/^.*\//, "").toUpperCase();
  return { H264: "H.264", OPUS: "Opus" }[codec ?? ""] ?? codec ?? "nothing";
}

/** Chromium watches the stream until it has decoded enough of pictures and sound; that is the finding. */
export async function watched(
  stage: Stage,
  who: Client,
  stream: string,
  alive: () => void = () => undefined,
  server: Server = stage.server,
): Promise<void> {
  const state = await until(
    `${who.client} is live`,
    async () => {
      alive();
      const now = await server.stream(stream);
      return now?.tracks.length === 2 && now.tracks.every(({ packets }) => packets > 0) ? now : undefined;
    },
    { withinMs: 20_000 },
  );
  const viewer = await stage.viewer();
  await viewer.start(server.whep(stream));
  const { stats } = await until(
    `what ${who.client} publishes is seen and heard`,
    async () => {
      alive();
      const report = await viewer.report();
      const enough = report.stats.framesDecoded >= PICTURES_MIN && report.stats.audioEnergy > ENERGY_MIN;
      return enough ? report : undefined;
    },
    { withinMs: 20_000 },
  );
  const audio = state.tracks.find(({ kind }) => kind === "audio")?.codec;
  const counted = { pictures: stats.framesDecoded, energy: stats.audioEnergy };
  table.found({ ...who, way: "publishes", video: name(stats.codec), audio: name(audio), ...counted });
}

/** A stream of H.264 and Opus to play; gives its endpoint. */
export async function source(stage: Stage, stream: string): Promise<string> {
  await stage.ffmpeg({ source: 1, gopSeconds: 2 }, whip(stage.server.whip(stream)));
  await until("the stream to play is live", () => stage.server.stream(stream), { withinMs: 20_000 });
  return stage.server.whep(stream);
}
