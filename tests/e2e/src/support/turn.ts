// A TURN server of others: coturn, which checks credentials that Sluice made.

import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { until } from "./wait.ts";

export interface TurnOptions {
  host: string;
  port: number;
  /** TLS on this port, with a certificate that nobody has signed. */
  tlsPort?: number;
  /** Credentials are made with this secret, or there is one user. */
  credentials: { secret: string } | { username: string; credential: string };
}

export class Coturn {
  readonly log: string[] = [];

  private constructor(
    readonly process: ChildProcess,
    readonly folder: string,
  ) {
    for (const pipe of [process.stdout, process.stderr]) {
      if (pipe !== null) createInterface(pipe).on("line", (line) => void this.log.push(line));
    }
  }

  /** Takes TCP alone from its clients. */
  static async start({ host, port, tlsPort, credentials }: TurnOptions): Promise<Coturn> {
    const folder = mkdtempSync(path.join(tmpdir(), "sluice-coturn-"));
    const users =
      "secret" in credentials
        ? ["--use-auth-secret", `--static-auth-secret=${credentials.secret}`]
        : ["--lt-cred-mech", `--user=${credentials.username}:${credentials.credential}`];
    const tls =
      tlsPort === undefined ? ["--no-tls"] : [`--tls-listening-port=${tlsPort}`, ...certificate(folder, host)];
    const child = spawn(
      "turnserver",
      [
        "-n",
        `--listening-ip=${host}`,
        `--listening-port=${port}`,
        `--relay-ip=${host}`,
        ...users,
        "--realm=sluice.test",
        "--no-udp",
        ...tls,
        "--no-dtls",
        "--no-cli",
        "--log-file=stdout",
        "--simple-log",
        "--verbose",
        "--pidfile=/dev/null",
        `--userdb=${path.join(folder, "users")}`,
      ],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    await once(child, "spawn");
    const coturn = new Coturn(child, folder);
    await until("coturn listens", async () => {
      if (child.exitCode !== null) throw new Error(`coturn ended with ${child.exitCode}:\n${coturn.log.join("\n")}`);
      const socket = connect(port, host);
      const listens = await Promise.race([
        once(socket, "connect").then(() => true),
        once(socket, "error").then(() => false),
      ]).catch(() => false);
      socket.destroy();
      return listens;
    });
    return coturn;
  }

  async stop(): Promise<void> {
    rmSync(this.folder, { recursive: true, force: true });
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    this.process.kill("SIGKILL");
    await once(this.process, "exit");
  }
}

/** Makes a key and a certificate for the address; gives coturn's arguments that name them. */
function certificate(folder: string, host: string): string[] {
  const [key, cert] = [path.join(folder, "key.pem"), path.join(folder, "cert.pem")];
  const subject = ["-subj", `/CN=${host}`, "-addext", `subjectAltName=IP:${host}`];
  const made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  execFileSync("openssl", [...made, ...subject, "-keyout", key, "-out", cert], { stdio: "ignore" });
  return [`--pkey=${key}`, `--cert=${cert}`];
}
