// What a test file needs on stage: a server, the pages, and everything that was opened, closed again in reverse.

import { after, before } from "node:test";
import { Pages, Publisher, Viewer } from "./browser.ts";
import { FfmpegPublisher, type FfmpegOptions } from "./ffmpeg.ts";
import { Server } from "./server.ts";
import type { PublisherOptions } from "../page/publisher.ts";

export class Stage {
  #server: Server | undefined;
  #pages: Pages | undefined;
  #closing: (() => Promise<void> | void)[] = [];

  /** Call at a test file's top: starts the server before its tests, stops it after them and checks that it ended well. */
  static set(settings: Record<string, string> = {}): Stage {
    const stage = new Stage();
    before(async () => {
      stage.#pages = await Pages.start();
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

  async viewer(): Promise<Viewer> {
    const viewer = await this.#explained(Viewer.open(this.pages));
    this.#closing.push(() => viewer.close());
    return viewer;
  }

  async publisher(options: PublisherOptions): Promise<Publisher> {
    const publisher = await this.#explained(Publisher.start(this.pages, options));
    this.#closing.push(() => publisher.close());
    return publisher;
  }

  async ffmpeg(options: FfmpegOptions, output: string[]): Promise<FfmpegPublisher> {
    const publisher = await FfmpegPublisher.start(options, output);
    this.#closing.push(() => publisher.kill());
    return publisher;
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
