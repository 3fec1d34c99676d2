// Chromium, and the pages it loads from here: publishers and viewers each have a browser of their own.

import { build } from "esbuild";
import { once } from "node:events";
import { createServer, type Server as HttpServer } from "node:http";
import path from "node:path";
import { chromium, type Browser, type Page } from "playwright-core";
import type { OwnSide } from "../page/http.ts";
import type { PublisherOptions, PublisherReport } from "../page/publisher.ts";
import type { Capture, Join, ViewerReport } from "../page/viewer.ts";
import type { FarNetwork } from "./network.ts";
import { until } from "./wait.ts";

const EXECUTABLE = process.env["SLUICE_CHROMIUM"] ?? "/usr/bin/chromium";
const PAGES = path.resolve(import.meta.dirname, "../page");

const FLAGS = [
  "--no-sandbox",
  // The server advertises loopback only; a page in production meets another address.
  "--allow-loopback-in-peer-connection",
  "--autoplay-policy=no-user-gesture-required",
  "--disable-background-timer-throttling",
  "--disable-renderer-backgrounding",
  "--disable-backgrounding-occluded-windows",
];

/** The pages' own little web server, one per test file. */
export class Pages {
  #scripts = new Map<string, string>();

  private constructor(readonly server: HttpServer) {}

  /** On loopback, or where `host` says. */
  static async start(host = "127.0.0.1"): Promise<Pages> {
    const server = createServer();
    const pages = new Pages(server);
    for (const name of ["publisher", "viewer", "client", "hls", "listener", "libraries"]) {
      const entry = path.join(PAGES, `${name}.ts`);
      const built = await build({ entryPoints: [entry], bundle: true, write: false, format: "iife", target: "es2022" });
      pages.#scripts.set(`/${name}.js`, built.outputFiles[0]?.text ?? "");
    }
    server.on("request", (request, response) => {
      const script = pages.#scripts.get(request.url ?? "");
      const type = script === undefined ? "text/html" : "text/javascript";
      const name = request.url?.slice(1) ?? "";
      const page = `<!doctype html><title>${name}</title><body><script src="/${name}.js"></script>`;
      response.writeHead(200, { "content-type": `${type}; charset=utf-8` }).end(script ?? page);
    });
    server.listen(0, host);
    await once(server, "listening");
    return pages;
  }

  url(page: "publisher" | "viewer" | "client" | "hls" | "libraries", host = "127.0.0.1"): string {
    const address = this.server.address();
    return `http://${host}:${typeof address === "object" && address !== null ? address.port : 0}/${page}`;
  }

  stop(): void {
    this.server.close();
    this.server.closeAllConnections();
  }
}

export async function launch(executablePath = EXECUTABLE, flags: string[] = []): Promise<Browser> {
  return chromium.launch({ executablePath, headless: true, args: [...FLAGS, ...flags] });
}

/** A browser for pages of that URL's origin, here or in a far network. */
export async function launchFor(url: string, far?: FarNetwork, more: string[] = []): Promise<Browser> {
  if (far === undefined) return launch(undefined, more);
  // Sound, among others, is for secure contexts only; loopback is one. And Chromium hides its addresses behind mDNS names, for which
  // it waits in vain where there is no IPv4, or where an interface has just come up.
  const secure = `--unsafely-treat-insecure-origin-as-secure=${new URL(url).origin}`;
  return launch(await far.wrap(EXECUTABLE), [secure, "--disable-features=WebRtcHideLocalIpsWithMdns", ...more]);
}

/** A browser with a page open, here or in a far network. */
export async function open(
  pages: Pages,
  name: "publisher" | "viewer" | "client" | "hls",
  far?: FarNetwork,
  more: string[] = [],
): Promise<{ browser: Browser; page: Page }> {
  const url = pages.url(name, far?.nearHost);
  const browser = await launchFor(url, far, more);
  try {
    const page = await browser.newPage({ viewport: { width: 700, height: 420 } });
    page.on("pageerror", (error) => console.error(`page: ${error.message}`));
    await page.goto(url);
    return { browser, page };
  } catch (error) {
    await browser.close();
    throw error;
  }
}

/** Waits until the player page shows moving pictures. */
export async function playing(page: Page): Promise<void> {
  await page.locator('[data-testid="player"][data-state="playing"]').waitFor({ timeout: 20_000 });
  const shown = (): Promise<number> =>
    page.getByTestId("video").evaluate((video: HTMLVideoElement) => video.getVideoPlaybackQuality().totalVideoFrames);
  const before = await shown();
  await until("the picture moves", async () => (await shown()) > before + 15);
}

/** A browser that publishes the picture clock. */
export class Publisher {
  private constructor(
    readonly browser: Browser,
    readonly page: Page,
  ) {}

  /** Gives a publisher that is connected and has sent pictures. */
  static async start(pages: Pages, options: PublisherOptions, far?: FarNetwork): Promise<Publisher> {
    const { browser, page } = await open(pages, "publisher", far);
    try {
      const publisher = new Publisher(browser, page);
      await publisher.page.evaluate((o) => window.publisher.start(o), options);
      await until("the publisher sends", async () => (await publisher.report()).framesEncoded > 5);
      return publisher;
    } catch (error) {
      await browser.close();
      throw error;
    }
  }

  /** Restarts ICE in the session; gives the new ICE session's name. */
  restartIce(token?: string): Promise<string> {
    return this.page.evaluate((t) => window.publisher.restartIce(t), token);
  }

  /** This browser's side of the pair that carries the media. */
  side(): Promise<OwnSide | undefined> {
    return this.page.evaluate(() => window.publisher.side());
  }

  /** Of a publisher that was to send sound later: now. */
  beginSound(): Promise<void> {
    return this.page.evaluate(() => window.publisher.beginSound());
  }

  /** Stops or resumes a simulcast layer. */
  setActive(rid: string, active: boolean): Promise<void> {
    return this.page.evaluate(([r, a]) => window.publisher.setActive(r, a), [rid, active] as const);
  }

  report(): Promise<PublisherReport> {
    return this.page.evaluate(() => window.publisher.report());
  }

  /** DELETEs the session. */
  stop(token?: string): Promise<number> {
    return this.page.evaluate((t) => window.publisher.stop(t), token);
  }

  close(): Promise<void> {
    return this.browser.close();
  }
}

/** A browser that watches. */
export class Viewer {
  private constructor(
    readonly browser: Browser,
    readonly page: Page,
  ) {}

  static async open(pages: Pages, far?: FarNetwork, flags: string[] = []): Promise<Viewer> {
    const { browser, page } = await open(pages, "viewer", far, flags);
    return new Viewer(browser, page);
  }

  /** Gives the session's URL. */
  start(endpoint: string, token?: string, captureTimes = false): Promise<string> {
    return this.page.evaluate(([e, t, c]) => window.viewer.start(e, t, c), [endpoint, token, captureTimes] as const);
  }

  /** What packets said of their capture. */
  captures(): Promise<Capture[]> {
    return this.page.evaluate(() => window.viewer.captures());
  }

  /** As `start`, by the client library. */
  watch(endpoint: string, token?: string): Promise<string> {
    return this.page.evaluate(([e, t]) => window.viewer.watch(e, t), [endpoint, token] as const);
  }

  join(endpoint: string, edgeMs: number, patienceMs = 10_000, token?: string): Promise<Join> {
    const given = [endpoint, edgeMs, patienceMs, token] as const;
    return this.page.evaluate(([e, edge, patience, t]) => window.viewer.join(e, edge, patience, t), given);
  }

  /** Restarts ICE in the session; gives the new ICE session's name. */
  restartIce(token?: string): Promise<string> {
    return this.page.evaluate((t) => window.viewer.restartIce(t), token);
  }

  /** This browser's side of the pair that carries the media. */
  side(): Promise<OwnSide | undefined> {
    return this.page.evaluate(() => window.viewer.side());
  }

  report(): Promise<ViewerReport> {
    return this.page.evaluate(() => window.viewer.report());
  }

  reset(): Promise<void> {
    return this.page.evaluate(() => window.viewer.reset());
  }

  framesOf(source: number): Promise<number> {
    return this.page.evaluate((s) => window.viewer.framesOf(s), source);
  }

  fidelity(pictures: number): Promise<number[]> {
    return this.page.evaluate((count) => window.viewer.fidelity(count), pictures);
  }

  stop(token?: string): Promise<number> {
    return this.page.evaluate((t) => window.viewer.stop(t), token);
  }

  /** Waits until frames of this source are on the screen. */
  async sees(source: number, withinMs = 10_000): Promise<void> {
    await until(`the viewer sees source ${source}`, async () => (await this.framesOf(source)) >= 3, { withinMs });
  }

  close(): Promise<void> {
    return this.browser.close();
  }
}
