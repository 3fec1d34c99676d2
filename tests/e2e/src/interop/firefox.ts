// Firefox, driven by WebDriver BiDi over the WebSocket it opens itself: no driver program between.

import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import WebSocket from "ws";
import { until } from "../support/wait.ts";

const EXECUTABLE = process.env["SLUICE_FIREFOX"] ?? "/usr/bin/firefox-esr";

const PREFERENCES = {
  "media.autoplay.default": 0,
  // A microphone that hums, for machines without one.
  "media.navigator.streams.fake": true,
  "media.navigator.permission.disabled": true,
  "media.autoplay.blocking_policy": 0,
  // OpenH264 and updates would be fetched from elsewhere.
  "media.gmp-manager.updateEnabled": false,
  "app.update.disabledForTesting": true,
  "browser.shell.checkDefaultBrowser": false,
  "datareporting.policy.dataSubmissionEnabled": false,
  "toolkit.telemetry.reportingpolicy.firstRun": false,
  // A headless window counts as hidden: its timers would be slowed.
  "dom.min_background_timeout_value": 4,
  "widget.windows.window_occlusion_tracking.enabled": false,
};

/** Firefox answers a command in milliseconds, and shows a page in two seconds at the most. */
const PATIENCE_MS = 15_000;

interface Answer {
  id?: number;
  type: "success" | "error" | "event";
  result?: Record<string, unknown>;
  error?: string;
  message?: string;
}

export class Firefox {
  #id = 0;
  #waiting = new Map<number, (answer: Answer) => void>();
  #context = "";

  private constructor(
    readonly process: ChildProcess,
    readonly profile: string,
    readonly socket: WebSocket,
  ) {
    socket.on("message", (data) => {
      const answer = JSON.parse(String(data)) as Answer;
      if (answer.id !== undefined) this.#waiting.get(answer.id)?.(answer);
    });
  }

  /** A Firefox of its own, that shows the page. */
  static async open(url: string): Promise<Firefox> {
    const profile = mkdtempSync(path.join(tmpdir(), "sluice-firefox-"));
    const preferences = Object.entries(PREFERENCES).map(([name, value]) => `user_pref("${name}", ${JSON.stringify(value)});`);
    writeFileSync(path.join(profile, "user.js"), preferences.join("\n"));
    const args = ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"];
    const child = spawn(EXECUTABLE, args, { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, HOME: profile } });
    let listening: string | undefined;
    let ended: string | undefined;
    child.on("error", (error) => (ended = error.message));
    child.on("exit", (code) => (ended = `it ended with ${code}`));
    if (child.stderr !== null) {
      createInterface(child.stderr).on("line", (line) => {
        listening ??= /WebDriver BiDi listening on (ws:\S+)/.exec(line)?.[1];
      });
    }
    try {
      const address = await until(
        "Firefox listens",
        () => {
          if (ended !== undefined) throw new Error(`Firefox: ${ended}`);
          return listening;
        },
        { withinMs: 30_000 },
      );
      const socket = new WebSocket(`${address}/session`);
      await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
      const firefox = new Firefox(child, profile, socket);
      await firefox.#ask("session.new", { capabilities: {} });
      const tree = await firefox.#ask("browsingContext.getTree", {});
      firefox.#context = (tree["contexts"] as { context: string }[])[0]?.context ?? "";
      await firefox.#ask("browsingContext.navigate", { context: firefox.#context, url, wait: "complete" });
      return firefox;
    } catch (error) {
      child.kill("SIGKILL");
      rmSync(profile, { recursive: true, force: true });
      throw error;
    }
  }

  /** What the expression's promise gives, by way of JSON. */
  async evaluate<T>(expression: string): Promise<T> {
    const answer = await this.#ask("script.evaluate", {
      expression: `(async () => JSON.stringify(await (${expression})) ?? "null")()`,
      target: { context: this.#context },
      awaitPromise: true,
      userActivation: true,
    });
    if (answer["type"] !== "success") {
      const { text } = answer["exceptionDetails"] as { text: string };
      throw new Error(`in Firefox: ${text}`);
    }
    return JSON.parse((answer["result"] as { value: string }).value) as T;
  }

  async #ask(method: string, params: Record<string, unknown>): Promise<Record<string, unknown>> {
    const id = (this.#id += 1);
    const answered = new Promise<Answer>((resolve) => this.#waiting.set(id, resolve));
    this.socket.send(JSON.stringify({ id, method, params }));
    let patience: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const give = (): void => reject(new Error(`Firefox does not answer ${method} ${JSON.stringify(params).slice(0, 200)}`));
      patience = setTimeout(give, PATIENCE_MS);
    });
    const answer = await Promise.race([answered, late]).finally(() => clearTimeout(patience));
    this.#waiting.delete(id);
    if (answer.type === "error") throw new Error(`Firefox refuses ${method}: ${answer.error} ${answer.message}`);
    return answer.result ?? {};
  }

  async close(): Promise<void> {
    await Promise.race([this.#ask("browser.close", {}), new Promise((resolve) => setTimeout(resolve, 2_000))]).catch(() => undefined);
    this.socket.close();
    this.process.kill("SIGKILL");
    await until("Firefox is gone", () => this.process.exitCode !== null || this.process.signalCode !== null);
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
