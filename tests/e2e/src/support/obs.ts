// OBS as Debian has it, on a screen and with a sound card that do not exist, in a home of its own: as it is after installation.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Readable } from "node:stream";
import WebSocket from "ws";
import * as clock from "../clock.ts";
import { FfmpegPublisher } from "./ffmpeg.ts";
import { freePort } from "./server.ts";
import { until } from "./wait.ts";

/** One that can draw on a screen and play to a sound card: Debian's. */
const FFMPEG_SHOW = process.env["SLUICE_FFMPEG_SHOW"] ?? "ffmpeg";
/** OBS's canvas is as large as the screen. This one is small, since the processor draws for it. */
const SCREEN = `${clock.WIDTH}x${clock.HEIGHT}`;
const LOG_LINES_MAX = 2_000;

interface Answer {
  requestStatus: { result: boolean; code: number; comment?: string };
  responseData?: Record<string, unknown>;
}

export class Obs {
  readonly log: string[] = [];
  #closing: (() => Promise<void> | void)[] = [];
  #environment: Record<string, string> = {};
  #socket: WebSocket | undefined;
  #asked = new Map<string, (answer: Answer) => void>();

  /** Started, and showing the picture clock of this source. */
  static async start(source: number): Promise<Obs> {
    const obs = new Obs();
    try {
      await obs.#furnish();
      await obs.#launch();
      // Above OBS's own window, as there is nothing that would raise that one.
      await obs.#show(source);
      await obs.ask("CreateInput", { sceneName: "Scene", inputName: "Screen", inputKind: "xshm_input", inputSettings: { show_cursor: false } });
    } catch (error) {
      await obs.close();
      throw new Error(`${String(error)}\nOBS's log:\n${obs.log.slice(-40).join("\n")}`, { cause: error });
    }
    return obs;
  }

  /** Begins to stream there, as its settings are. */
  async stream(server: string, key: string): Promise<void> {
    const streamServiceSettings = { server, key, use_auth: false };
    await this.ask("SetStreamServiceSettings", { streamServiceType: "rtmp_custom", streamServiceSettings });
    await this.ask("StartStream");
    await until("OBS streams", async () => (await this.ask("GetStreamStatus"))["outputActive"] === true);
  }

  async stop(): Promise<void> {
    await this.ask("StopStream");
    await until("OBS streams no more", async () => (await this.ask("GetStreamStatus"))["outputActive"] === false);
  }

  /** A setting of the profile, as the settings window would change it. */
  async set(parameterCategory: string, parameterName: string, parameterValue: string): Promise<void> {
    await this.ask("SetProfileParameter", { parameterCategory, parameterName, parameterValue });
  }

  /** A request of obs-websocket 5; fails as OBS says. */
  async ask(requestType: string, requestData: Record<string, unknown> = {}): Promise<Record<string, unknown>> {
    const requestId = `${requestType}-${this.#asked.size}-${performance.now()}`;
    const answer = await new Promise<Answer>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`OBS does not answer ${requestType}`)), 10_000);
      this.#asked.set(requestId, (answered) => {
        clearTimeout(timer);
        resolve(answered);
      });
      this.#socket?.send(JSON.stringify({ op: 6, d: { requestType, requestId, requestData } }));
    });
    this.#asked.delete(requestId);
    if (!answer.requestStatus.result) throw new Error(`OBS refuses ${requestType}: ${JSON.stringify(answer.requestStatus)}`);
    return answer.responseData ?? {};
  }

  async close(): Promise<void> {
    this.#socket?.terminate();
    for (const close of this.#closing.splice(0).toReversed()) await close();
  }

  /** A screen, a sound card, a home. */
  async #furnish(): Promise<void> {
    const home = mkdtempSync(path.join(tmpdir(), "sluice-obs-"));
    this.#closing.push(() => rmSync(home, { recursive: true, force: true }));
    const runtime = path.join(home, "run");
    mkdirSync(runtime, { mode: 0o700 });
    const socket = path.join(runtime, "sound");
    const base = { PATH: process.env["PATH"] ?? "", HOME: home, XDG_RUNTIME_DIR: runtime };
    const screen = spawn("Xvfb", ["-displayfd", "3", "-screen", "0", `${SCREEN}x24`, "-nolisten", "tcp"], {
      stdio: ["ignore", "ignore", "pipe", "pipe"],
      env: base,
    });
    this.#keep(screen);
    const [display] = (await once(screen.stdio[3] as Readable, "data")) as [Buffer];
    const modules = [`module-native-protocol-unix socket=${socket} auth-anonymous=1`, "module-null-sink sink_name=clock"];
    const sound = spawn("pulseaudio", ["-n", "--daemonize=no", "--exit-idle-time=-1", ...modules.flatMap((module) => ["-L", module])], {
      stdio: ["ignore", "ignore", "pipe"],
      env: base,
    });
    this.#keep(sound);
    this.#environment = { ...base, DISPLAY: `:${display.toString().trim()}`, PULSE_SERVER: `unix:${socket}`, LIBGL_ALWAYS_SOFTWARE: "1" };
  }

  /** The clock on the whole screen, its sound on the card. */
  async #show(source: number): Promise<void> {
    const window = ["-window_x", "0", "-window_y", "0", "-window_borderless", "1", "-window_size", SCREEN];
    const pictures = ["-pix_fmt", "yuv420p", ...window, "-f", "sdl", "clock"];
    // In a process of its own: a sound card takes its time, and pictures must not wait for that. So it is heard, but at no time in particular.
    const env = { ...this.#environment, SDL_RENDER_DRIVER: "software" };
    for (const shown of [
      await FfmpegPublisher.show(source, FFMPEG_SHOW, pictures, ["pictures"], env),
      await FfmpegPublisher.show(source, FFMPEG_SHOW, ["-f", "pulse", "clock"], ["sound"], env),
    ]) {
      this.#closing.push(() => shown.kill());
    }
  }

  async #launch(): Promise<void> {
    const port = await freePort();
    const folder = path.join(this.#environment["HOME"] ?? "", ".config/obs-studio");
    mkdirSync(folder, { recursive: true });
    // What the first start would ask for, and the way in; everything else is as OBS has it.
    const settings = [
      ...["[General]", "FirstRun=true", "EnableAutoUpdates=false", "LastVersion=486539266"],
      ...["[OBSWebSocket]", "FirstLoad=false", "ServerEnabled=true", `ServerPort=${port}`, "AlertsEnabled=false", "AuthRequired=false"],
    ];
    writeFileSync(path.join(folder, "global.ini"), `${settings.join("\n")}\n`);
    const obs = spawn("obs", ["--multi"], { stdio: ["ignore", "pipe", "pipe"], env: this.#environment });
    this.#keep(obs);
    for (const pipe of [obs.stdout, obs.stderr]) {
      pipe?.setEncoding("utf8").on("data", (text: string) => {
        this.log.push(...text.split("\n").filter((line) => line.trim() !== ""));
        this.log.splice(0, this.log.length - LOG_LINES_MAX);
      });
    }
    await until("OBS is up", () => this.log.some((line) => line.includes("Server started successfully")), { withinMs: 40_000 });
    const opened = new WebSocket(`ws://127.0.0.1:${port}`);
    this.#socket = opened;
    const identified = new Promise<void>((resolve, reject) => {
      opened.on("error", reject);
      opened.on("message", (text: Buffer) => {
        const { op, d } = JSON.parse(text.toString()) as { op: number; d: Answer & { requestId: string } };
        if (op === 0) opened.send(JSON.stringify({ op: 1, d: { rpcVersion: 1, eventSubscriptions: 0 } }));
        if (op === 2) resolve();
        if (op === 7) this.#asked.get(d.requestId)?.(d);
      });
    });
    await identified;
    // Requests before the window is built are refused.
    await until("OBS is ready", async () => {
      const answer = await this.ask("GetVideoSettings").catch(() => undefined);
      return answer?.["fpsNumerator"] === clock.FPS;
    });
  }

  #keep(child: ChildProcess): void {
    this.#closing.push(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    });
  }
}
