// A bucket of others: moto, which speaks S3; and before it, a CDN in one function.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createInterface } from "node:readline";
import { until } from "./wait.ts";

const PYTHON = process.env["SLUICE_PYTHON"] ?? "python3";
/** Of any key: moto asks for one and looks no further. */
const AUTHORIZATION = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

export class Bucket {
  readonly log: string[] = [];
  #url = "";

  private constructor(
    private readonly process: ChildProcess,
    readonly name: string,
  ) {}

  static async start(name: string): Promise<Bucket> {
    const child = spawn(PYTHON, ["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"], { stdio: ["ignore", "pipe", "pipe"] });
    await once(child, "spawn");
    const bucket = new Bucket(child, name);
    for (const pipe of [child.stdout, child.stderr]) {
      createInterface(pipe).on("line", (line) => {
        bucket.log.push(line);
        bucket.#url ||= /Running on (http:\/\/127\.0\.0\.1:\d+)/.exec(line)?.[1] ?? "";
      });
    }
    await until("moto listens", () => {
      if (child.exitCode !== null) throw new Error(`moto ended with ${child.exitCode}:\n${bucket.log.join("\n")}`);
      return Promise.resolve(bucket.#url !== "");
    });
    const made = await bucket.request("PUT", "");
    if (!made.ok) throw new Error(`no bucket: ${made.status} ${await made.text()}`);
    return bucket;
  }

  /** What a server is told of it. */
  get environment(): Record<string, string> {
    return {
      AWS_ENDPOINT_URL: this.#url,
      AWS_ALLOW_HTTP: "true",
      AWS_ACCESS_KEY_ID: "test",
      AWS_SECRET_ACCESS_KEY: "test",
      AWS_REGION: "us-east-1",
    };
  }

  request(method: string, key: string): Promise<Response> {
    return fetch(`${this.#url}/${this.name}/${key}`, { method, headers: { authorization: AUTHORIZATION } });
  }

  /** Of all objects. */
  async keys(): Promise<string[]> {
    const listed = await (await this.request("GET", "?list-type=2")).text();
    return [...listed.matchAll(/<Key>([^<]*)<\/Key>/g)].map((match) => match[1] ?? "");
  }

  stop(): Promise<void> {
    this.process.kill("SIGKILL");
    return Promise.resolve();
  }
}

/** Hands the bucket's objects to everybody, with the headers that they are stored with. */
export async function cdn(bucket: Bucket): Promise<{ url: string; close: () => Promise<void> }> {
  const server: Server = createServer((request, response) => {
    void (async () => {
      const stored = await bucket.request("GET", (request.url ?? "/").slice(1));
      const kept = ["content-type", "cache-control"].flatMap((name) => {
        const value = stored.headers.get(name);
        return value === null ? [] : [[name, value] as const];
      });
      response.writeHead(stored.status, { ...Object.fromEntries(kept), "access-control-allow-origin": "*" });
      response.end(Buffer.from(await stored.arrayBuffer()));
    })().catch((error: unknown) => response.writeHead(502).end(String(error)));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
