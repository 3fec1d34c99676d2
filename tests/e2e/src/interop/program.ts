// Clients that are programs of their own.

import { spawn, type ChildProcess } from "node:child_process";
import { until } from "../support/wait.ts";

const STDERR_LINES_MAX = 60;

export class Program {
  readonly #stderr: string[] = [];
  #stdout = "";
  #exit: number | NodeJS.Signals | undefined;

  private constructor(
    readonly name: string,
    readonly process: ChildProcess,
  ) {
    process.stdout?.setEncoding("utf8").on("data", (text: string) => (this.#stdout += text));
    process.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr.push(...text.split("\n"));
      this.#stderr.splice(0, this.#stderr.length - STDERR_LINES_MAX);
    });
    process.on("error", (error) => {
      this.#stderr.push(error.message);
      this.#exit = -1;
    });
    process.on("exit", (code, signal) => (this.#exit = code ?? signal ?? -1));
  }

  static start(command: string, args: string[]): Program {
    return new Program(command, spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] }));
  }

  /** Fails with what the program said when it has ended by itself. */
  alive(): void {
    if (this.#exit !== undefined) throw new Error(`${this.name} ended with ${this.#exit}:\n${this.#stderr.join("\n")}`);
  }

  /** Waits until it ends well; gives the last line it printed, read as JSON. */
  async report<T>(withinMs = 30_000): Promise<T> {
    await until(`${this.name} ends`, () => this.#exit !== undefined, { withinMs });
    if (this.#exit !== 0) this.alive();
    const line = this.#stdout.trim().split("\n").at(-1) ?? "";
    try {
      return JSON.parse(line) as T;
    } catch {
      throw new Error(`${this.name} reports ${JSON.stringify(line)}:\n${this.#stderr.join("\n")}`);
    }
  }

  /** Closes its input, which some programs take as the sign to leave. */
  dismiss(): void {
    this.process.stdin?.end();
  }

  async kill(): Promise<void> {
    if (this.#exit === undefined) this.process.kill("SIGKILL");
    await until(`${this.name} is gone`, () => this.#exit !== undefined);
  }
}
