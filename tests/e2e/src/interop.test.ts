// Real clients against the running server, pictures and sound counted: the README's table of clients is what they did here.

import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import path from "node:path";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { Firefox } from "./interop/firefox.ts";
import { Program } from "./interop/program.ts";
import { ENERGY_MIN, name, PICTURES_MIN, SOUNDS_MIN, source, watched, type Client, type Played } from "./interop/trial.ts";
import * as table from "./interop/table.ts";
import type { PublisherReport } from "./page/publisher.ts";
import type { ViewerReport } from "./page/viewer.ts";
import { launch } from "./support/browser.ts";
import { whip } from "./support/ffmpeg.ts";
import { Server } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { until } from "./support/wait.ts";

const stage = Stage.set();

const REPOSITORY = path.resolve(import.meta.dirname, "../../..");
const PYTHON = process.env["SLUICE_PYTHON"] ?? "python3";
const AIORTC = path.join(import.meta.dirname, "interop/aiortc_client.py");
const OBS = path.join(import.meta.dirname, "interop/libdatachannel/obs.ts");
const WEBRTC_RS = process.env["SLUICE_WEBRTC_RS"] ?? path.join(REPOSITORY, "target/debug/sluice-webrtc-rs");
const FILM = path.join(REPOSITORY, "tests/fixtures/h264/in-order.264");

async function played(who: Client, program: Program): Promise<void> {
  stage.closeLater(() => program.kill());
  const { video, audio, left } = await program.report<Played>();
  assert.ok(video.units >= PICTURES_MIN, `${video.units} pictures`);
  assert.ok(audio.energy > ENERGY_MIN, `no sound: ${audio.energy}`);
  assert.equal(left, 200, "the goodbye");
  const counted = { pictures: video.units, energy: audio.energy };
  table.found({ ...who, way: "plays", video: name(video.codec), audio: name(audio.codec), ...counted });
}

async function chromium(): Promise<Client> {
  const browser = await launch();
  const version = browser.version();
  await browser.close();
  return { client: "Chromium", version: version.replace(/\..*/, "") };
}

test(
  "Chromium publishes by WHIP and plays by WHEP",
  stage.act(async () => {
    const who = await chromium();
    await stage.publisher({ endpoint: stage.server.whip("chromium"), source: 1, codec: "H264" });
    await watched(stage, who, "chromium");
    const viewer = await stage.viewer();
    await viewer.start(stage.server.whep("chromium"));
    const { stats } = await until("it plays", async () => {
      const report = await viewer.report();
      return report.stats.framesDecoded >= PICTURES_MIN && report.stats.audioEnergy > ENERGY_MIN ? report : undefined;
    });
    const counted = { pictures: stats.framesDecoded, energy: stats.audioEnergy };
    table.found({ ...who, way: "plays", video: name(stats.codec), audio: "Opus", ...counted });
  }),
);

test(
  "Firefox publishes by WHIP and plays by WHEP",
  stage.act(async () => {
    const { pages } = stage;
    // Firefox leaves loopback out of its candidates: the server is where another machine would find it.
    const address = Object.values(networkInterfaces()).flat().find((each) => each?.family === "IPv4" && !each.internal);
    const server = await Server.start({ WEBRTC__LISTEN: "0.0.0.0:0", WEBRTC__ADVERTISE: address?.address ?? "127.0.0.1" });
    stage.closeLater(async () => void (await server.stop()));
    const publisher = await Firefox.open(pages.url("publisher"));
    stage.closeLater(() => publisher.close());
    const agent = await publisher.evaluate<string>("navigator.userAgent");
    const who = { client: "Firefox ESR", version: /Firefox\/(\d+)/.exec(agent)?.[1] ?? "unknown" };
    const options = JSON.stringify({ endpoint: server.whip("firefox"), source: 1, codec: "VP8", microphone: true });
    await publisher.evaluate(`window.publisher.start(${options})`);
    await until("Firefox sends", async () => {
      return (await publisher.evaluate<PublisherReport>("window.publisher.report()")).framesEncoded > 5;
    });
    await watched(stage, who, "firefox", undefined, server);

    const viewer = await Firefox.open(pages.url("viewer"));
    stage.closeLater(() => viewer.close());
    await viewer.evaluate(`window.viewer.start(${JSON.stringify(server.whep("firefox"))})`);
    const { stats } = await until(
      "Firefox plays",
      async () => {
        const report = await viewer.evaluate<ViewerReport>("window.viewer.report()");
        return report.stats.framesDecoded >= PICTURES_MIN && report.stats.audioEnergy > ENERGY_MIN ? report : undefined;
      },
      { withinMs: 20_000 },
    );
    const counted = { pictures: stats.framesDecoded, energy: stats.audioEnergy };
    table.found({ ...who, way: "plays", video: name(stats.codec), audio: "Opus", ...counted });
    assert.equal(await viewer.evaluate<number>("window.viewer.stop()"), 200, "the goodbye");
    assert.equal(await publisher.evaluate<number>("window.publisher.stop()"), 200, "the goodbye");
  }),
);

test(
  "ffmpeg publishes by WHIP",
  stage.act(async () => {
    const version = table.programVersion(process.env["SLUICE_FFMPEG"] ?? "ffmpeg", ["-version"]);
    const publisher = await stage.ffmpeg({ source: 1, gopSeconds: 2 }, whip(stage.server.whip("ffmpeg")));
    await watched(stage, { client: "ffmpeg `whip`", version }, "ffmpeg", () => assert.equal(publisher.ended, undefined));
  }),
);

test(
  "aiortc publishes by WHIP and plays by WHEP",
  stage.act(async () => {
    const { server } = stage;
    const asked = "import importlib.metadata as m; print(m.version('aiortc'))";
    const who = { client: "aiortc", version: table.programVersion(PYTHON, ["-c", asked]) };
    const publisher = Program.start(PYTHON, [AIORTC, "publish", server.whip("aiortc")]);
    stage.closeLater(() => publisher.kill());
    await watched(stage, who, "aiortc", () => publisher.alive());
    publisher.dismiss();
    assert.equal((await publisher.report<{ left: number }>()).left, 200, "the goodbye");
    const endpoint = await source(stage, "to-aiortc");
    await played(who, Program.start(PYTHON, [AIORTC, "play", endpoint, `${PICTURES_MIN}`, `${SOUNDS_MIN}`]));
  }),
);

test(
  "libdatachannel, driven as OBS drives it, publishes by WHIP",
  stage.act(async () => {
    const obs = ["--import", "tsx", OBS];
    const version = table.programVersion(process.execPath, [...obs, "version"]);
    const publisher = Program.start(process.execPath, [...obs, stage.server.whip("libdatachannel")]);
    stage.closeLater(() => publisher.kill());
    await watched(stage, { client: "libdatachannel, as OBS 30 and newer use it", version }, "libdatachannel", () => publisher.alive());
    publisher.dismiss();
    assert.equal((await publisher.report<{ left: number }>()).left, 200, "the goodbye");
  }),
);

test(
  "The webrtc crate's PeerConnection publishes by WHIP and plays by WHEP",
  stage.act(async () => {
    const { server } = stage;
    const who = { client: "Rust crate `webrtc`", version: table.crateVersion("webrtc") };
    const publisher = Program.start(WEBRTC_RS, ["publish", server.whip("webrtc-rs"), "--video", FILM]);
    stage.closeLater(() => publisher.kill());
    await watched(stage, who, "webrtc-rs", () => publisher.alive());
    const endpoint = await source(stage, "to-webrtc-rs");
    await played(who, Program.start(WEBRTC_RS, ["play", endpoint, "--pictures", `${PICTURES_MIN}`]));
  }),
);

/** A page with the published libraries, in a browser of its own. */
async function libraries(): Promise<Page> {
  const browser = await launch();
  stage.closeLater(() => browser.close());
  const page = await browser.newPage();
  page.on("pageerror", (error) => console.error(`page: ${error.message}`));
  await page.goto(stage.pages.url("libraries"));
  return page;
}

/** The library DELETEs its session; some close the connection first, and then the session may be over already. */
async function bye(page: Page): Promise<void> {
  const { deleted } = await page.evaluate(() => window.libraries.leave());
  assert.ok(deleted === 200 || deleted === 404, `the goodbye: ${deleted}`);
}

for (const library of ["@eyevinn/whip-web-client", "whip-whep"]) {
  test(
    `npm's ${library} publishes by WHIP`,
    stage.act(async () => {
      const who = { client: `npm \`${library}\``, version: table.npmVersion(library) };
      const page = await libraries();
      const endpoint = stage.server.whip("library");
      await page.evaluate(([l, e]) => window.libraries.publish(l, e), [library, endpoint] as const);
      await watched(stage, who, "library");
      await bye(page);
    }),
  );
}

for (const library of ["@eyevinn/webrtc-player", "whip-whep"]) {
  test(
    `npm's ${library} plays by WHEP`,
    stage.act(async () => {
      const who = { client: `npm \`${library}\``, version: table.npmVersion(library) };
      const page = await libraries();
      const endpoint = await source(stage, "to-library");
      await page.evaluate(([l, e]) => window.libraries.play(l, e), [library, endpoint] as const);
      const report = await until(
        `${library} plays`,
        async () => {
          const now = await page.evaluate(() => window.libraries.report());
          return now.framesDecoded >= PICTURES_MIN && now.audioEnergy > ENERGY_MIN ? now : undefined;
        },
        { withinMs: 20_000 },
      );
      const counted = { pictures: report.framesDecoded, energy: report.audioEnergy };
      table.found({ ...who, way: "plays", video: name(report.videoCodec), audio: name(report.audioCodec), ...counted });
      await bye(page);
    }),
  );
}

test("The README's table of clients is what they did in this run", (context) => {
  if (table.isComplete()) table.settle("all");
  else context.skip("not every client has run");
});
