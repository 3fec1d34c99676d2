// GStreamer's WHIP and WHEP elements against the running server. Apart from the other clients, because they have to be built: four
// minutes and GStreamer's development packages. `scripts/test gstreamer` does that.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import path from "node:path";
import { test } from "node:test";
import { Stage } from "../support/stage.ts";
import { until } from "../support/wait.ts";
import { Program } from "./program.ts";
import * as table from "./table.ts";
import { ENERGY_MIN, name, PICTURES_MIN, SOUNDS_MIN, source, watched, type Client, type Played } from "./trial.ts";

const stage = Stage.set();

const REPOSITORY = path.resolve(import.meta.dirname, "../../../..");
const GSTREAMER = process.env["SLUICE_GSTREAMER"] ?? path.join(REPOSITORY, "target/gstreamer/debug/sluice-gstreamer");

function gstreamer(): Client {
  const told = execFileSync(GSTREAMER, ["version"], { encoding: "utf8" });
  const { plugin, gstreamer: version } = JSON.parse(told) as { plugin: string; gstreamer: string };
  return { client: table.GSTREAMER, version: `${plugin}, GStreamer ${version}` };
}

test(
  "GStreamer's whipclientsink publishes by WHIP",
  stage.act(async () => {
    const publisher = Program.start(GSTREAMER, ["publish", stage.server.whip("gstreamer")]);
    stage.closeLater(() => publisher.kill());
    await watched(stage, gstreamer(), "gstreamer", () => publisher.alive());
    publisher.dismiss();
    await publisher.report();
    const live = async (): Promise<boolean> => (await stage.server.stream("gstreamer")) !== undefined;
    assert.equal(await live(), false, "it said goodbye before it ended");
  }),
);

test(
  "GStreamer's whepclientsrc plays by WHEP",
  stage.act(async () => {
    const endpoint = await source(stage, "to-gstreamer");
    const player = Program.start(GSTREAMER, ["play", endpoint, `${PICTURES_MIN}`, `${SOUNDS_MIN}`]);
    stage.closeLater(() => player.kill());
    const { video, audio } = await player.report<Omit<Played, "left">>();
    assert.ok(video.units >= PICTURES_MIN, `${video.units} pictures`);
    assert.ok(audio.units >= SOUNDS_MIN && audio.energy > ENERGY_MIN, `no sound: ${audio.energy}`);
    const counted = { pictures: video.units, energy: audio.energy };
    table.found({ ...gstreamer(), way: "plays", video: name(video.codec), audio: name(audio.codec), ...counted });
    await until("its session is over", async () => (await stage.server.stream("to-gstreamer"))?.viewers.length === 0);
  }),
);

test("The README's row of GStreamer is what it did in this run", (context) => {
  if (table.count() === 2) table.settle("apart");
  else context.skip("not both ways have run");
});
