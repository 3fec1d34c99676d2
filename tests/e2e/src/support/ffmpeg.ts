// ffmpeg as a publisher: raw pictures with the picture clock and raw sound, made here in real time, encoded and sent by it.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import * as clock from "../clock.ts";
import { until } from "./wait.ts";

const FFMPEG = process.env["SLUICE_FFMPEG"] ?? "ffmpeg";
const RATE_HZ = 48_000;
const SAMPLES_PER_FRAME = RATE_HZ / clock.FPS;
const LUMA_BYTES = clock.WIDTH * clock.HEIGHT;
const FRAME_BYTES = (LUMA_BYTES * 3) / 2;
/** What may wait for ffmpeg before frames are left out: half a second of pictures. */
const BACKLOG_BYTES_MAX = FRAME_BYTES * 15;
const STDERR_LINES_MAX = 400;

export interface FfmpegOptions {
  source: number;
  /** Seconds between keyframes. */
  gopSeconds: number;
  bitrate?: string;
  /** Further encoder arguments, for example B-frames. */
  video?: string[];
}

/** Output arguments for RTMP. */
export function flv(...urls: string[]): string[] {
  const audio = ["-c:a", "aac", "-b:a", "128k"];
  if (urls.length === 1) return [...audio, "-f", "flv", "-flvflags", "no_duration_filesize", urls[0] as string];
  const outputs = urls.map((url) => `[f=flv:flvflags=no_duration_filesize:onfail=ignore]${url}`);
  return [...audio, "-flags", "+global_header", "-f", "tee", outputs.join("|")];
}

/** Output arguments for RTMP where the other side comes: one player, for as long as that stays. */
export function flvForPlayer(url: string): string[] {
  return [...flv(url).slice(0, -1), "-listen", "1", url];
}

/** Output arguments for WHIP. */
export function whip(url: string, token?: string): string[] {
  const authorization = token === undefined ? [] : ["-authorization", token];
  return ["-c:a", "libopus", "-b:a", "96k", ...authorization, "-f", "whip", url];
}

export class FfmpegPublisher {
  readonly stderr: string[] = [];
  #timer: NodeJS.Timeout | undefined;
  #inputs: Writable[] = [];
  #exit: number | NodeJS.Signals | undefined;
  /** When the first picture was handed to ffmpeg, milliseconds since the epoch. */
  startedAtMs = 0;

  private constructor(
    readonly process: ChildProcess,
    readonly source: number,
  ) {
    process.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr.push(...text.split("\n").filter((line) => line !== ""));
      this.stderr.splice(0, this.stderr.length - STDERR_LINES_MAX);
    });
    process.on("exit", (code, signal) => {
      this.#exit = code ?? signal ?? -1;
      clearInterval(this.#timer);
    });
  }

  static start(options: FfmpegOptions, output: string[]): Promise<FfmpegPublisher> {
    const gop = String(options.gopSeconds * clock.FPS);
    const encoded = [
      ...["-map", "0:v", "-map", "1:a", "-ac", "2", "-flush_packets", "1"],
      ...["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-profile:v", "baseline"],
      ...["-g", gop, "-keyint_min", gop, "-sc_threshold", "0", "-bf", "0", "-b:v", options.bitrate ?? "1500k"],
      ...(options.video ?? []),
      ...output,
    ];
    return FfmpegPublisher.show(options.source, FFMPEG, encoded);
  }

  /** With outputs of all kinds: a screen, a sound card. `inputs` are numbered as they are named. */
  static async show(
    source: number,
    program: string,
    outputs: string[],
    inputs: ("pictures" | "sound")[] = ["pictures", "sound"],
    env = process.env,
  ): Promise<FfmpegPublisher> {
    const raw = ["-probesize", "32", "-analyzeduration", "0", "-thread_queue_size", "64"];
    const size = `${clock.WIDTH}x${clock.HEIGHT}`;
    const formats = {
      pictures: ["-f", "rawvideo", "-pixel_format", "yuv420p", "-video_size", size, "-framerate", String(clock.FPS), "-i", "pipe:0"],
      // ffmpeg's raw PCM demuxer waits for 100 ms of sound, its WAV demuxer for what it is told: 10 ms of floats.
      sound: ["-f", "wav", "-ignore_length", "1", "-max_size", String(RATE_HZ / 25), "-i", "pipe:3"],
    };
    const child = spawn(
      program,
      [
        ...["-hide_banner", "-nostats", "-loglevel", "info", "-fflags", "nobuffer"],
        ...inputs.flatMap((input) => [...raw, ...formats[input]]),
        ...outputs,
      ],
      { stdio: ["pipe", "ignore", "pipe", "pipe"], env },
    );
    await once(child, "spawn");
    const publisher = new FfmpegPublisher(child, source);
    const [pictures, sound] = [child.stdin as Writable, child.stdio[3] as Writable];
    publisher.#feed(inputs.includes("pictures") ? pictures : undefined, inputs.includes("sound") ? sound : undefined);
    return publisher;
  }

  #feed(pictures: Writable | undefined, sound: Writable | undefined): void {
    this.#inputs = [pictures, sound].filter((input) => input !== undefined);
    // A publisher that was killed or refused leaves broken pipes; its exit says so.
    for (const input of this.#inputs) input.on("error", () => undefined);
    sound?.write(wavHeader());
    const began = performance.now();
    let frame = 0;
    this.startedAtMs = Date.now();
    const beginMs = this.startedAtMs;
    const tick = (): void => {
      const due = Math.floor(((performance.now() - began) * clock.FPS) / 1000);
      while (frame <= due && this.#exit === undefined) {
        if ((pictures?.writableLength ?? 0) < BACKLOG_BYTES_MAX) {
          pictures?.write(picture(Date.now(), frame, this.source));
          sound?.write(samples(beginMs, frame));
        }
        frame += 1;
      }
    };
    tick();
    this.#timer = setInterval(tick, 4);
  }

  get ended(): number | NodeJS.Signals | undefined {
    return this.#exit;
  }

  /** Waits for ffmpeg to end by itself, as it does when it is refused. */
  async end(withinMs = 15_000): Promise<number | NodeJS.Signals> {
    await until("ffmpeg ends", () => this.#exit !== undefined, { withinMs });
    return this.#exit as number | NodeJS.Signals;
  }

  /** Ends as if the machine had lost power. */
  async kill(): Promise<void> {
    clearInterval(this.#timer);
    if (this.#exit === undefined) this.process.kill("SIGKILL");
    await this.end();
  }

  /** Ends the inputs; ffmpeg says goodbye to the server and ends. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    for (const input of this.#inputs) input.end();
    await this.end().catch(() => this.kill());
  }
}

/** Grain, so that a picture costs about what a camera's does; each frame begins elsewhere in it. */
const GRAIN = Buffer.from(Array.from({ length: 65_536 }, (_, i) => 110 + ((Math.imul(i + 1, 2_654_435_761) >>> 27) & 15)));

/** One yuv420p picture: the clock, the flash, and something that moves. */
function picture(nowMs: number, frame: number, source: number): Buffer {
  const out = Buffer.alloc(FRAME_BYTES, 128);
  out.fill(70, 0, LUMA_BYTES);
  for (let line = 280; line < clock.HEIGHT; line += 1) {
    const from = ((frame * 977 + line * 613) * 7) % (GRAIN.length - clock.WIDTH);
    GRAIN.copy(out, line * clock.WIDTH, from, from + clock.WIDTH);
  }
  const rectangle = (x: number, y: number, width: number, height: number, luma: number): void => {
    for (let line = y; line < y + height; line += 1) {
      const at = line * clock.WIDTH + x;
      out.fill(luma, at, at + width);
    }
  };
  for (let i = 0; i < 6; i += 1) rectangle(180 + ((frame * (i + 2) + i * 70) % 440), 180 + i * 28, 20, 24, 90 + i * 24);
  const { FLASH } = clock;
  rectangle(FLASH.x, FLASH.y, FLASH.width, FLASH.height, clock.isFlashing(nowMs) ? 235 : 16);
  clock.encode(nowMs, source).forEach((white, cell) => {
    const x = (cell % clock.COLUMNS) * clock.CELL_WIDTH;
    const y = Math.floor(cell / clock.COLUMNS) * clock.CELL_HEIGHT;
    rectangle(x, y, clock.CELL_WIDTH, clock.CELL_HEIGHT, white ? 235 : 16);
  });
  return out;
}

/** Mono floats, of a length nobody knows yet. Not 16 bits: there ffmpeg first looks for S/PDIF in 0.7 s of sound. */
function wavHeader(): Buffer {
  const out = Buffer.alloc(44);
  out.write("RIFF", 0);
  out.writeUInt32LE(0xffff_ffff, 4);
  out.write("WAVEfmt ", 8);
  out.writeUInt32LE(16, 16);
  out.writeUInt16LE(3, 20);
  out.writeUInt16LE(1, 22);
  out.writeUInt32LE(RATE_HZ, 24);
  out.writeUInt32LE(RATE_HZ * 4, 28);
  out.writeUInt16LE(4, 32);
  out.writeUInt16LE(32, 34);
  out.write("data", 36);
  out.writeUInt32LE(0xffff_ffff, 40);
  return out;
}

/** The sound that belongs to one picture: a hum, and the beep while it flashes. */
function samples(beginMs: number, frame: number): Buffer {
  const out = Buffer.alloc(SAMPLES_PER_FRAME * 4);
  for (let i = 0; i < SAMPLES_PER_FRAME; i += 1) {
    const seconds = (frame * SAMPLES_PER_FRAME + i) / RATE_HZ;
    const beeping = clock.isFlashing(beginMs + seconds * 1000);
    const hum = clock.HUM_GAIN * Math.sin(2 * Math.PI * clock.HUM_HZ * seconds);
    const beep = beeping ? clock.BEEP_GAIN * Math.sin(2 * Math.PI * clock.BEEP_HZ * seconds) : 0;
    out.writeFloatLE(hum + beep, i * 4);
  }
  return out;
}

/** ffmpeg as the other end of an RTMP connection: decodes what arrives and reads the clock, as a yardstick. */
export class RtmpYardstick {
  readonly agesMs: number[] = [];

  private constructor(
    readonly process: ChildProcess,
    readonly url: string,
  ) {
    let pending: Buffer = Buffer.alloc(0);
    const width = clock.COLUMNS;
    (process.stdout as Readable).on("data", (chunk: Buffer) => {
      const nowMs = Date.now();
      pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
      const frameBytes = width * 9;
      while (pending.length >= frameBytes) {
        const cells = [...pending.subarray(0, width * clock.ROWS)].map((luma) => luma > 127);
        const reading = clock.decode(cells);
        if (reading !== undefined) this.agesMs.push(clock.age(reading, nowMs));
        pending = pending.subarray(frameBytes);
      }
    });
    process.stderr?.resume();
  }

  static async listen(port: number): Promise<RtmpYardstick> {
    const url = `rtmp://127.0.0.1:${port}/live/yardstick`;
    const child = spawn(
      FFMPEG,
      [
        ...["-hide_banner", "-loglevel", "error", "-fflags", "nobuffer", "-flags", "low_delay", "-threads", "1"],
        ...["-probesize", "4096", "-analyzeduration", "0", "-listen", "1", "-i", url],
        // One pixel from the middle of each 64x40 cell.
        ...["-an", "-vf", `scale=${clock.COLUMNS}:9:flags=area,format=gray`, "-fps_mode", "passthrough"],
        ...["-f", "rawvideo", "-flush_packets", "1", "pipe:1"],
      ],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    await once(child, "spawn");
    return new RtmpYardstick(child, url);
  }

  async stop(): Promise<void> {
    this.process.kill("SIGKILL");
    if (this.process.exitCode === null && this.process.signalCode === null) await once(this.process, "exit");
  }
}
