// What the README shows is run as it stands there.

import assert from "node:assert/strict";
import { once } from "node:events";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { launch } from "./support/browser.ts";
import { Server } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { SECRET } from "./support/token.ts";
import { until } from "./support/wait.ts";

const stage = Stage.set({ AUTH__MODE: "jwt", AUTH__HS256_SECRET: SECRET });
const README = readFileSync(path.resolve(import.meta.dirname, "../../../README.md"), "utf8");

/** What of it `scripts/test` finds or installs; Go's compiler is too large to install for one example. */
const EXAMPLES = [
  { language: "js", file: "token.mjs", command: ["node"], installed: true },
  { language: "python", file: "token.py", command: ["python3"], installed: true },
  { language: "go", file: "token.go", command: ["go", "run"], installed: false },
  { language: "php", file: "token.php", command: ["php"], installed: true },
];

for (const { language, file, command, installed } of EXAMPLES) {
  test(`The ${language} example makes a token that the server takes`, async (context) => {
    const code = new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, "s").exec(README)?.[1];
    assert.ok(code, "the README has the example");
    const [program = "", ...args] = command;
    const folder = mkdtempSync(path.join(tmpdir(), "sluice-example-"));
    try {
      writeFileSync(path.join(folder, file), code);
      let token = "";
      try {
        const options = { cwd: folder, env: { ...process.env, SECRET }, encoding: "utf8" } as const;
        token = execFileSync(program, [...args, file], options).trim();
      } catch (error) {
        if (installed || (error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
        context.skip(`there is no ${program} here`);
        return;
      }
      const watch = (stream: string): Promise<Response> =>
        fetch(stage.server.whep(stream), {
          method: "POST",
          // A compiler may have run since the last request; the server has let go of an idle connection by then.
          headers: { authorization: `Bearer ${token}`, "content-type": "application/sdp", connection: "close" },
          body: "v=0\r\n",
        });
      // The token is good, so the next thing is looked at: the offer, or whether the stream is live.
      const response = await watch("cam1");
      assert.ok([400, 409, 422].includes(response.status), `${response.status} ${await response.text()}`);
      assert.equal((await watch("cam2")).status, 403);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}

test("The example of a page of one's own plays, from another origin than the server's", async () => {
  const example = /```html\n(.*?)```/s.exec(README)?.[1];
  assert.ok(example, "the README has the example");
  const server = await Server.start();
  const site = createServer((_, response) => {
    response.writeHead(200, { "content-type": "text/html; charset=utf-8" });
    response.end(example.replaceAll("http://127.0.0.1:8080", server.url));
  }).listen(0, "127.0.0.1");
  await once(site, "listening");
  const browser = await launch();
  try {
    const address = site.address();
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}/`);
    await page.getByText("offline: ").waitFor({ timeout: 15_000 });
    const studio = await browser.newPage();
    await studio.goto(`${server.url}/publish/cam1?source=test&resolution=360&codec=VP8`);
    await studio.getByTestId("start").click();
    await page.getByText("connected", { exact: true }).waitFor({ timeout: 15_000 });
    const shown = (): Promise<number> =>
      page.locator("video").evaluate((video: HTMLVideoElement) => video.getVideoPlaybackQuality().totalVideoFrames);
    await until("the picture moves", async () => (await shown()) > 15);
  } finally {
    await browser.close();
    site.close();
    await server.stop();
  }
});
