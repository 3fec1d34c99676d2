// A page of somebody's own that uses the client library, in Chromium or Firefox.

import type { Firefox } from "../interop/firefox.ts";
import type { ClientOptions, ClientReport } from "../page/client.ts";
import type { FarNetwork } from "./network.ts";
import { open, type Pages } from "./browser.ts";
import { until } from "./wait.ts";

/** Evaluates an expression in the page. */
type Evaluate = <T>(expression: string) => Promise<T>;

export class Client {
  private constructor(
    readonly evaluate: Evaluate,
    readonly leave: () => Promise<void>,
  ) {}

  static async inChromium(pages: Pages, far?: FarNetwork, flags: string[] = []): Promise<Client> {
    const { browser, page } = await open(pages, "client", far, flags);
    return new Client((expression) => page.evaluate(expression), () => browser.close());
  }

  static inFirefox(firefox: Firefox): Client {
    return new Client((expression) => firefox.evaluate(expression), () => firefox.close());
  }

  async watch(options: ClientOptions): Promise<void> {
    await this.evaluate(`window.client.watch(${JSON.stringify(options)})`);
  }

  async publish(options: ClientOptions): Promise<void> {
    await this.evaluate(`window.client.publish(${JSON.stringify(options)})`);
  }

  report(): Promise<ClientReport> {
    return this.evaluate<ClientReport>("window.client.report()");
  }

  /** Waits for so many more pictures in a session that is connected; gives the report. */
  async goesOn(pictures = 30, withinMs = 15_000): Promise<ClientReport> {
    let from: { resource: string | undefined; frames: number } | undefined;
    return until(
      `${pictures} pictures by the library`,
      async () => {
        const now = await this.report();
        if (from === undefined || from.resource !== now.resource) from = now;
        return now.state === "connected" && now.frames >= from.frames + pictures && now;
      },
      { withinMs },
    ).catch(async (error: unknown) => {
      throw new Error(`${String(error)}: ${JSON.stringify(await this.report())}`);
    });
  }

  /** Waits for pictures that move, by this way; gives how long that took. */
  async comesBy(transport: "webrtc" | "hls", withinMs: number): Promise<number> {
    const began = Date.now();
    let from: number | undefined;
    await until(
      `pictures by ${transport}`,
      async () => {
        const now = await this.report();
        if (now.transport !== transport || now.state !== "connected") return false;
        // The count begins anew with each source.
        from = Math.min(from ?? now.framesShown, now.framesShown);
        return now.framesShown > from + 15;
      },
      { withinMs },
    ).catch(async (error: unknown) => {
      throw new Error(`${String(error)}: ${JSON.stringify(await this.report())}`);
    });
    return Date.now() - began;
  }

  /** Ends the session; gives the status that its URL has then. */
  close(): Promise<number> {
    return this.evaluate<number>("window.client.close()");
  }
}
