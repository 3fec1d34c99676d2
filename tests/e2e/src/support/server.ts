// The real server, on ports of its own, for as long as a test needs it.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";
import { until } from "./wait.ts";

const REPOSITORY = path.resolve(import.meta.dirname, "../../../..");
const BINARY = process.env["SLUICE_BINARY"] ?? path.join(REPOSITORY, "target/release/sluice");
/** What `--print-addresses` prints. */
interface Addresses {
  http: string;
  rtmp: string | null;
  webrtc: string;
}

/** Lines of the server's log kept for a failing test to show. */
const LOG_LINES_MAX = 20_000;

export interface TrackState {
  kind: string;
  codec: string;
  packets: number;
  keyframes: number;
  width: number | null;
  height: number | null;
  layers: { rid: string | null; width: number | null; height: number | null; bitrate_bps: number; active: boolean; role: string }[];
}

/** How it stands with a server that a stream is sent on to. */
export interface Push {
  target: string;
  state: string;
  attempts: number;
  bytes_sent: number;
  problem: string | null;
  last_failure: { reason: string; at: string } | null;
}

/** A stream's source, as the API has it. */
export interface PullState {
  source: string;
  on_demand: boolean;
  state: string;
  attempts: number;
  bytes_received: number;
  problem: string | null;
  last_failure: { reason: string; at: string } | null;
}

/** The API's view of a stream, as far as tests look at it. */
export interface StreamState {
  name: string;
  live: boolean;
  publisher: { session: string; protocol: string; priority: string } | null;
  standby: { session: string; protocol: string; priority: string; ready: boolean } | null;
  tracks: TrackState[];
  notices: { code: string; text: string }[];
  viewer_count: number;
  reencoding: { encoder: string | null; latency_ms: number | null; cpu_share: number | null; starts: number; failing: string | null } | null;
  ladder: StreamState["reencoding"];
  pushes: Push[];
  hls: { viewer_count: number; window_bytes: number; refusal: string | null; output: { segments: number; failing: string | null } | null; renditions: { kind: string; codecs: string; frame_rate: number | null }[] } | null;
  viewers: {
    session: string;
    connected: boolean;
    packets_sent: number;
    round_trip_ms: number | null;
    lost_share: number | null;
    bandwidth_bps: number | null;
  }[];
}

export class Server {
  readonly log: string[] = [];
  #exit: number | NodeJS.Signals | undefined;
  #addresses: Addresses | undefined;

  private constructor(
    readonly process: ChildProcess,
  ) {
    for (const pipe of [process.stdout, process.stderr]) {
      if (pipe === null) continue;
      createInterface(pipe).on("line", (line) => {
        if (this.#addresses === undefined && line.startsWith("{")) this.#addresses = JSON.parse(line) as Addresses;
        else if (this.log.length < LOG_LINES_MAX) this.log.push(line);
      });
    }
    process.on("exit", (code, signal) => (this.#exit = code ?? signal ?? -1));
  }

  /** `settings` are environment variables without their prefix: `{ AUTH__MODE: "jwt" }`; `others` have none. */
  static async start(settings: Record<string, string> = {}, others: Record<string, string> = {}): Promise<Server> {
    const environment: Record<string, string> = {
      PATH: process.env["PATH"] ?? "",
      ...others,
      SLUICE_HTTP__LISTEN: "127.0.0.1:0",
      SLUICE_RTMP__LISTEN: "127.0.0.1:0",
      SLUICE_WEBRTC__LISTEN: "127.0.0.1:0",
      SLUICE_WEBRTC__ADVERTISE: "127.0.0.1",
      SLUICE_LOG__LEVEL: process.env["SLUICE_E2E_LOG"] ?? "info",
    };
    for (const [name, value] of Object.entries(settings)) environment[`SLUICE_${name}`] = value;
    const child = spawn(BINARY, ["serve", "--print-addresses"], { env: environment, stdio: ["ignore", "pipe", "pipe"] });
    await once(child, "spawn");
    const server = new Server(child);
    try {
      await until("the server is ready", async () => {
        if (server.#exit !== undefined) throw new Error(`the server ended at once: ${server.#exit}`);
        if (server.#addresses === undefined) return false;
        const response = await fetch(`${server.url}/readyz`).catch(() => undefined);
        await response?.arrayBuffer();
        return response?.ok;
      });
    } catch (error) {
      child.kill("SIGKILL");
      throw new Error(`${String(error)}\n${server.log.join("\n")}`);
    }
    return server;
  }

  get addresses(): Addresses {
    if (this.#addresses === undefined) throw new Error("the server has not said where it listens");
    return this.#addresses;
  }

  get url(): string {
    return `http://${this.addresses.http}`;
  }

  get pid(): number {
    return this.process.pid ?? 0;
  }

  whip(stream: string): string {
    return `${this.url}/whip/${stream}`;
  }

  whep(stream: string): string {
    return `${this.url}/whep/${stream}`;
  }

  hls(stream: string, token?: string): string {
    return `${this.url}/hls/${stream}/index.m3u8${token === undefined ? "" : `?token=${token}`}`;
  }

  rtmp(stream: string, token?: string): string {
    const query = token === undefined ? "" : `?token=${token}`;
    return `rtmp://${this.addresses.rtmp ?? "nowhere"}/live/${stream}${query}`;
  }

  /** What the API says of a stream; undefined when it is not live. */
  async stream(name: string, token?: string): Promise<StreamState | undefined> {
    const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const response = await fetch(`${this.url}/api/v1/streams/${name}`, { headers });
    const text = await response.text();
    if (response.status === 404) return undefined;
    if (!response.ok) throw new Error(`${response.status} ${text}`);
    const state = JSON.parse(text) as StreamState;
    return state.live ? state : undefined;
  }

  /** How it stands with a stream's source; the stream is known whether it is live or not. */
  async pull(name: string, token?: string): Promise<PullState> {
    const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const response = await fetch(`${this.url}/api/v1/streams/${name}`, { headers });
    const { pulls } = (await response.json()) as { pulls: PullState[] };
    const [state] = pulls;
    if (state === undefined || pulls.length > 1) throw new Error(`${pulls.length} sources of ${name}`);
    return state;
  }

  async metrics(): Promise<string> {
    return (await fetch(`${this.url}/metrics`)).text();
  }

  /** The sum of a series' samples whose labels hold `labels`. */
  async metric(name: string, labels = ""): Promise<number> {
    let sum = 0;
    for (const line of (await this.metrics()).split("\n")) {
      const match = /^(\w+)(\{.*\})? ([^ ]+)/.exec(line);
      if (match?.[1] === name && (match[2] ?? "").includes(labels)) sum += Number(match[3]);
    }
    return sum;
  }

  /** Asks the server to end; gives how long it took. Fails on a panic in the log and on an end by force. */
  async stop(): Promise<number> {
    const began = Date.now();
    if (this.#exit === undefined) this.process.kill("SIGTERM");
    const forced = setTimeout(() => this.process.kill("SIGKILL"), 15_000);
    await until("the server ends", () => this.#exit !== undefined, { withinMs: 20_000 });
    clearTimeout(forced);
    const panics = this.log.filter((line) => line.includes("panicked at"));
    if (panics.length > 0) throw new Error(`the server panicked: ${panics.join("\n")}`);
    if (this.#exit !== 0) throw new Error(`the server ended with ${this.#exit}:\n${this.tail(30)}`);
    return Date.now() - began;
  }

  /** The log's end, for a failure's message. */
  tail(lines = 40): string {
    return this.log.slice(-lines).join("\n");
  }
}

/** A number free for TCP at this moment, for programs that cannot say which one they took. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address !== null ? address.port : 0;
}
