// HLS of somebody else's making: ffmpeg cuts a test picture into segments, and a web server of its own gives them to every page.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer, type Server as HttpServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { until } from "./wait.ts";

const FFMPEG = process.env["SLUICE_FFMPEG"] ?? "ffmpeg";
const TYPES: Readonly<Record<string, string>> = { ".m3u8": "application/vnd.apple.mpegurl", ".ts": "video/mp2t" };

export class HlsOrigin {
  /** What was asked for, with the query. */
  readonly asked: string[] = [];

  private constructor(
    readonly ffmpeg: ChildProcess,
    readonly folder: string,
    readonly server: HttpServer,
  ) {}

  static async start(): Promise<HlsOrigin> {
    const folder = mkdtempSync(path.join(tmpdir(), "sluice-hls-"));
    const picture = ["-re", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30", "-re", "-f", "lavfi", "-i", "sine=frequency=330"];
    const encoded = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "30", "-pix_fmt", "yuv420p", "-c:a", "aac"];
    const cut = ["-f", "hls", "-hls_time", "1", "-hls_list_size", "6", "-hls_flags", "delete_segments"];
    const master = ["-master_pl_name", "index.m3u8", path.join(folder, "stream.m3u8")];
    const ffmpeg = spawn(FFMPEG, ["-loglevel", "error", ...picture, ...encoded, ...cut, ...master], { stdio: "ignore" });
    await once(ffmpeg, "spawn");
    const server = createServer();
    const origin = new HlsOrigin(ffmpeg, folder, server);
    server.on("request", (request, response) => {
      const { pathname, search } = new URL(request.url ?? "/", "http://127.0.0.1");
      const headers = { "access-control-allow-origin": "*", "access-control-allow-headers": "authorization", "cache-control": "no-store" };
      if (request.method === "OPTIONS") return void response.writeHead(204, headers).end();
      const name = path.basename(pathname);
      origin.asked.push(`${name}${search}`);
      readFile(path.join(folder, name)).then(
        (content) => response.writeHead(200, { ...headers, "content-type": TYPES[path.extname(name)] ?? "text/plain" }).end(content),
        () => response.writeHead(404, headers).end(),
      );
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    try {
      await until("there are segments", async () => (await fetch(origin.url)).ok, { withinMs: 15_000 });
    } catch (error) {
      await origin.stop();
      throw error;
    }
    return origin;
  }

  /** Of the multivariant playlist. */
  get url(): string {
    const address = this.server.address();
    return `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}/index.m3u8`;
  }

  async stop(): Promise<void> {
    this.server.close();
    this.server.closeAllConnections();
    if (this.ffmpeg.exitCode === null && this.ffmpeg.signalCode === null) {
      this.ffmpeg.kill("SIGKILL");
      await once(this.ffmpeg, "exit");
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}
