// What a test file needs on stage: a server, the pages, and everything that was opened, closed again in reverse.

import assert from "node:assert/strict";
import { after, before } from "node:test";
import type { Page } from "playwright-core";
import { Client } from "./client.ts";
import { launchFor, Pages, Publisher, Viewer } from "./browser.ts";
import { FfmpegPublisher, type FfmpegOptions } from "./ffmpeg.ts";
import type { FarNetwork } from "./network.ts";
import { Server } from "./server.ts";
import type { PublisherOptions } from "../page/publisher.ts";

export class Stage {
  #server: Server | undefined;
  #pages: Pages | undefined;
  #closing: (() => Promise<void> | void)[] = [];

  /** Call at a test file's top: starts the server before its tests, stops it after them and checks that it ended well. */
  static set(settings: Record<string, string> = {}, pagesHost?: string): Stage {
    const stage = new Stage();
    before(async () => {
      stage.#pages = await Pages.start(pagesHost);
      stage.#server = await Server.start(settings);
    });
    after(async () => {
      await stage.clear();
      stage.#pages?.stop();
      await stage.#server?.stop();
    });
    return stage;
  }

  get server(): Server {
    if (this.#server === undefined) throw new Error("the server is not up");
    return this.#server;
  }

  get pages(): Pages {
    if (this.#pages === undefined) throw new Error("the pages are not up");
    return this.#pages;
  }

  async viewer(far?: FarNetwork, flags: string[] = []): Promise<Viewer> {
    const viewer = await this.#explained(Viewer.open(this.pages, far, flags));
    this.#closing.push(() => viewer.close());
    return viewer;
  }

  /** A page of somebody's own that uses the client library. */
  async client(far?: FarNetwork, flags: string[] = []): Promise<Client> {
    const client = await this.#explained(Client.inChromium(this.pages, far, flags));
    this.#closing.push(() => client.leave());
    return client;
  }

  async publisher(options: PublisherOptions, far?: FarNetwork): Promise<Publisher> {
    const publisher = await this.#explained(Publisher.start(this.pages, options, far));
    this.#closing.push(() => publisher.close());
    return publisher;
  }

  async ffmpeg(options: FfmpegOptions, output: string[]): Promise<FfmpegPublisher> {
    const publisher = await FfmpegPublisher.start(options, output);
    this.#closing.push(() => publisher.kill());
    return publisher;
  }

  /** One of the server's own pages in a browser of its own, with what it complained about. */
  async page(
    path: string,
    prepare: (page: Page) => Promise<unknown> = () => Promise.resolve(),
    server = this.server,
    far?: FarNetwork,
  ): Promise<{ page: Page; complaints: string[] }> {
    const url = far === undefined ? `${server.url}${path}` : far.reach(`${server.url}${path}`);
    const browser = await launchFor(url, far);
    this.closeLater(() => browser.close());
    const page = await browser.newPage();
    const complaints: string[] = [];
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("console", (message) => {
      // Requests that are answered 404, 406 or 409 are how the pages find out what is live.
      if (message.type() === "error" && !message.text().includes("Failed to load resource")) {
        complaints.push(message.text());
      }
    });
    await prepare(page);
    const response = await page.goto(url);
    assert.equal(response?.status(), 200);
    return { page, complaints };
  }

  /** Also closed when the stage is cleared. */
  closeLater(close: () => Promise<void> | void): void {
    this.#closing.push(close);
  }

  /** Between two tests: closes what was opened. */
  async clear(): Promise<void> {
    for (const close of this.#closing.splice(0).toReversed()) await close();
  }

  /** A failure tells what the server said. */
  async #explained<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      throw new Error(`${String(error)}\nserver log:\n${this.#server?.tail() ?? ""}`, { cause: error });
    }
  }

  /** Runs a test's body; a failure tells what the server said; what was opened is closed. */
  act(body: () => Promise<void>): () => Promise<void> {
    return async () => {
      try {
        await this.#explained(body());
      } finally {
        await this.clear();
      }
    };
  }
}
