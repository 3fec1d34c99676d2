// A TURN server of others: coturn, which checks credentials that Sluice made.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { until } from "./wait.ts";

export interface TurnOptions {
  host: string;
  port: number;
  secret: string;
}

export class Coturn {
  readonly log: string[] = [];

  private constructor(readonly process: ChildProcess) {
    for (const pipe of [process.stdout, process.stderr]) {
      if (pipe !== null) createInterface(pipe).on("line", (line) => void this.log.push(line));
    }
  }

  /** Takes TCP alone from its clients, and credentials that are made with the secret. */
  static async start({ host, port, secret }: TurnOptions): Promise<Coturn> {
    const child = spawn(
      "turnserver",
      [
        "-n",
        `--listening-ip=${host}`,
        `--listening-port=${port}`,
        `--relay-ip=${host}`,
        "--use-auth-secret",
        `--static-auth-secret=${secret}`,
        "--realm=sluice.test",
        "--no-udp",
        "--no-tls",
        "--no-dtls",
        "--no-cli",
        "--log-file=stdout",
        "--simple-log",
        "--verbose",
        "--pidfile=/dev/null",
      ],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    await once(child, "spawn");
    const coturn = new Coturn(child);
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
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    this.process.kill("SIGKILL");
    await once(this.process, "exit");
  }
}
