// What OBS's encoders hand to its WHIP output: access units of H.264 in Annex B, one encoder for each layer, and packets of Opus.
// ffmpeg encodes in real time and writes to pipes.

import { spawn, type ChildProcess } from "node:child_process";
import type { Readable } from "node:stream";

const FFMPEG = process.env["SLUICE_FFMPEG"] ?? "ffmpeg";
export const FPS = 30;
/** Opus as OBS sends it: 20 ms a packet. */
export const SOUND_MS = 20;
const STDERR_BYTES_MAX = 4_000;

export interface Layer {
  width: number;
  height: number;
  /** Of the encoder, in kbit/s. */
  bitrate: number;
}

export interface Receiver {
  picture: (layer: number, accessUnit: Buffer) => void;
  sound: (packet: Buffer) => void;
  ended: (why: string) => void;
}

/** Starts the encoders; ends with the process that is given back. */
export function encode(layers: Layer[], receiver: Receiver): ChildProcess {
  const { width, height } = layers[0] as Layer;
  const split = `[0:v]format=yuv420p,split=${layers.length}${layers.map((_, i) => `[s${i}]`).join("")}`;
  const scaled = layers.map((layer, i) => `[s${i}]scale=${layer.width}:${layer.height}[v${i}]`);
  const pictures = layers.flatMap((layer, i) => [
    ...["-map", `[v${i}]`, "-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-profile:v", "high"],
    // What OBS sets for WHIP: no B-frames, parameter sets with every keyframe. Delimiters tell where an access unit ends.
    ...["-bf", "0", "-g", String(2 * FPS), "-x264-params", "repeat-headers=1:aud=1:scenecut=0"],
    ...["-b:v", `${layer.bitrate}k`, "-maxrate", `${layer.bitrate}k`, "-bufsize", `${layer.bitrate}k`],
    ...["-flush_packets", "1", "-f", "h264", `pipe:${3 + i}`],
  ]);
  const child = spawn(
    FFMPEG,
    [
      ...["-hide_banner", "-nostats", "-loglevel", "error"],
      ...["-re", "-f", "lavfi", "-i", `testsrc2=size=${width}x${height}:rate=${FPS}`],
      ...["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:samples_per_frame=960"],
      ...["-filter_complex", [split, ...scaled].join(";")],
      ...pictures,
      ...["-map", "1:a", "-ac", "2", "-c:a", "libopus", "-b:a", "96k", "-page_duration", String(SOUND_MS * 1000)],
      ...["-flush_packets", "1", "-f", "ogg", "pipe:1"],
    ],
    { stdio: ["ignore", "pipe", "pipe", ...layers.map(() => "pipe" as const)] },
  );
  let stderr = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr = (stderr + text).slice(-STDERR_BYTES_MAX)));
  child.on("error", (error) => receiver.ended(error.message));
  child.on("exit", (code, signal) => receiver.ended(`ffmpeg ended with ${code ?? signal}: ${stderr}`));
  for (const i of layers.keys()) {
    readAccessUnits(child.stdio[3 + i] as Readable, (accessUnit) => receiver.picture(i, accessUnit));
  }
  readOgg(child.stdout as Readable, receiver.sound);
  return child;
}

const DELIMITER = Buffer.from([0, 0, 0, 1, 9]);
/** A start code, the delimiter's header, the kinds of slices that follow. */
const DELIMITER_BYTES = 6;

/** Each access unit without its delimiter, as soon as the next one begins. */
function readAccessUnits(stream: Readable, receive: (accessUnit: Buffer) => void): void {
  let pending: Buffer = Buffer.alloc(0);
  stream.on("data", (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk]);
    for (let next = pending.indexOf(DELIMITER, 1); next > 0; next = pending.indexOf(DELIMITER, 1)) {
      receive(pending.subarray(DELIMITER_BYTES, next));
      pending = pending.subarray(next);
    }
  });
}

const PAGE_HEADER_BYTES = 27;
/** The packets that say what comes: OpusHead and OpusTags. */
const HEADERS = 2;

/** The packets of an Ogg stream that has whole packets in every page (RFC 3533 section 6). */
function readOgg(stream: Readable, receive: (packet: Buffer) => void): void {
  let pending: Buffer = Buffer.alloc(0);
  let packets = 0;
  stream.on("data", (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk]);
    for (;;) {
      const segments = pending[PAGE_HEADER_BYTES - 1];
      if (segments === undefined || pending.length < PAGE_HEADER_BYTES + segments) return;
      const lengths = pending.subarray(PAGE_HEADER_BYTES, PAGE_HEADER_BYTES + segments);
      let at = PAGE_HEADER_BYTES + segments;
      if (pending.length < at + lengths.reduce((sum, length) => sum + length, 0)) return;
      let begin = at;
      for (const length of lengths) {
        at += length;
        // A segment of 255 bytes is not its packet's last.
        if (length === 255) continue;
        packets += 1;
        if (packets > HEADERS) receive(Buffer.from(pending.subarray(begin, at)));
        begin = at;
      }
      pending = pending.subarray(at);
    }
  });
}
