// What is on a page's screen, picture by picture, as the browser's compositor made it.

import type { CDPSession, Page } from "playwright-core";

/** Frames of a recording that are kept: some 20 s at 30 a second, 5 KB each. */
const FRAMES_MAX = 600;

export class ScreenRecording {
  readonly frames: string[] = [];

  private constructor(
    readonly page: Page,
    readonly session: CDPSession,
  ) {}

  static async start(page: Page): Promise<ScreenRecording> {
    const session = await page.context().newCDPSession(page);
    const recording = new ScreenRecording(page, session);
    session.on("Page.screencastFrame", ({ data, sessionId }) => {
      recording.frames.push(data);
      if (recording.frames.length > FRAMES_MAX) recording.frames.shift();
      void session.send("Page.screencastFrameAck", { sessionId }).catch(() => undefined);
    });
    await session.send("Page.startScreencast", { format: "jpeg", quality: 50, maxWidth: 320, maxHeight: 320 });
    return recording;
  }

  /** Ends it; gives how bright each frame was, 0 to 255, on the mean. */
  async brightness(): Promise<number[]> {
    await this.session.send("Page.stopScreencast");
    // A page without policies decodes the pictures.
    const reader = await this.page.context().browser()?.newPage();
    if (reader === undefined) throw new Error("the page has no browser");
    try {
      return await reader.evaluate(async (frames) => {
        const canvas = new OffscreenCanvas(32, 32);
        const context = canvas.getContext("2d", { willReadFrequently: true });
        if (context === null) throw new Error("no canvas");
        const means: number[] = [];
        for (const frame of frames) {
          const bytes = Uint8Array.from(atob(frame), (character) => character.charCodeAt(0));
          context.drawImage(await createImageBitmap(new Blob([bytes], { type: "image/jpeg" })), 0, 0, 32, 32);
          const { data } = context.getImageData(0, 0, 32, 32);
          means.push(data.reduce((sum, value, index) => (index % 4 === 3 ? sum : sum + value), 0) / (32 * 32 * 3));
        }
        return means;
      }, this.frames);
    } finally {
      await reader.close();
    }
  }
}
