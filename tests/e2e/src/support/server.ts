// The real server, on ports of its own, for as long as a test needs it.

import { spawn, type ChildProcess } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";
import { until } from "./wait.ts";

const REPOSITORY = path.resolve(import.meta.dirname, "../../../..");
const BINARY = process.env["SLUICE_BINARY"] ?? path.join(REPOSITORY, "target/release/sluice");
/** Lines of the server's log kept for a failing test to show. */
const LOG_LINES_MAX = 20_000;

export interface StreamState {
  name?: string;
  stream?: string;
  [key: string]: unknown;
}

export class Server {
  readonly log: string[] = [];
  #exit: number | NodeJS.Signals | undefined;

  private constructor(
    readonly process: ChildProcess,
    readonly ports: { http: number; webrtc: number; rtmp: number },
  ) {
    for (const pipe of [process.stdout, process.stderr]) {
      if (pipe === null) continue;
      createInterface(pipe).on("line", (line) => {
        if (this.log.length < LOG_LINES_MAX) this.log.push(line);
      });
    }
    process.on("exit", (code, signal) => (this.#exit = code ?? signal ?? -1));
  }

  /** `settings` are environment variables without their prefix: `{ AUTH__MODE: "jwt" }`. */
  static async start(settings: Record<string, string> = {}): Promise<Server> {
    const ports = { http: await freePort(), webrtc: await freePort(), rtmp: await freePort() };
    const environment: Record<string, string> = {
      PATH: process.env["PATH"] ?? "",
      SLUICE_HTTP__LISTEN: `127.0.0.1:${ports.http}`,
      SLUICE_RTMP__LISTEN: `127.0.0.1:${ports.rtmp}`,
      SLUICE_WEBRTC__LISTEN: `127.0.0.1:${ports.webrtc}`,
      SLUICE_WEBRTC__ADVERTISE: "127.0.0.1",
      SLUICE_LOG__LEVEL: process.env["SLUICE_E2E_LOG"] ?? "info",
    };
    for (const [name, value] of Object.entries(settings)) environment[`SLUICE_${name}`] = value;
    const child = spawn(BINARY, ["serve"], { env: environment, stdio: ["ignore", "pipe", "pipe"] });
    await once(child, "spawn");
    const server = new Server(child, ports);
    try {
      await until("the server is ready", async () => {
        if (server.#exit !== undefined) throw new Error(`the server ended at once: ${server.#exit}`);
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

  get url(): string {
    return `http://127.0.0.1:${this.ports.http}`;
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

  rtmp(stream: string, token?: string): string {
    const query = token === undefined ? "" : `?token=${token}`;
    return `rtmp://127.0.0.1:${this.ports.rtmp}/live/${stream}${query}`;
  }

  /** What the API says of a stream; undefined when it is not live. */
  async stream(name: string, token?: string): Promise<StreamState | undefined> {
    const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const response = await fetch(`${this.url}/api/v1/streams/${name}`, { headers });
    const text = await response.text();
    if (response.status === 404) return undefined;
    if (!response.ok) throw new Error(`${response.status} ${text}`);
    return JSON.parse(text) as StreamState;
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

/** A number free for TCP and UDP alike at this moment. */
export async function freePort(): Promise<number> {
  for (;;) {
    const tcp = createServer().listen(0, "127.0.0.1");
    await once(tcp, "listening");
    const address = tcp.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const udp = createSocket("udp4");
    const free = await new Promise<boolean>((resolve) => {
      udp.once("error", () => resolve(false));
      udp.bind(port, "127.0.0.1", () => resolve(true));
    });
    udp.close();
    tcp.close();
    await once(tcp, "close");
    if (free) return port;
  }
}
