// OBS's WHIP: an offer of one, and simulcast by the library it is built on, driven as it drives it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { Program } from "./interop/program.ts";
import type { Viewer } from "./support/browser.ts";
import { Stage } from "./support/stage.ts";
import { until } from "./support/wait.ts";

const stage = Stage.set();

const REPOSITORY = path.resolve(import.meta.dirname, "../../..");
const OBS = path.join(import.meta.dirname, "interop/libdatachannel/obs.ts");
const AGENT = "Mozilla/5.0 (OBS-Studio/32.2.2; Linux x86_64; en-US)";
/** As the client sends them, and what each viewer is to see. */
const WIDTHS = { "0": 960, "1": 640, "2": 320 };

/** One that gathers before it offers, and one that offers before it gathers, as OBS does from 30.2 on. */
for (const fixture of ["obs-30", "obs-30-2"]) {
  test(
    `An OBS's offer (${fixture}) is answered, and its session ends with its DELETE`,
    stage.act(async () => {
      const offer = readFileSync(path.join(REPOSITORY, `signaling/tests/fixtures/${fixture}.sdp`));
      const headers = { accept: "*/*", "content-type": "application/sdp", "user-agent": AGENT };
      const response = await fetch(stage.server.whip(`replayed-${fixture}`), { method: "POST", headers, body: offer });
      const answer = await response.text();
      assert.equal(response.status, 201, answer);
      assert.equal(response.headers.get("content-type"), "application/sdp");
      const [session = "", ...sections] = answer.split(/^(?=m=)/m).map((section) => section.split("\r\n"));
      for (const line of ["a=ice-lite", "a=group:BUNDLE 0 1"]) assert.ok(session.includes(line), `${line} in ${answer}`);
      assert.equal(sections.length, 2);
      for (const [at, expected] of [
        ["m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=mid:0", "a=rtpmap:111 opus/48000/2"],
        ["m=video 9 UDP/TLS/RTP/SAVPF 96", "a=mid:1", "a=rtpmap:96 H264/90000", "a=rtcp-fb:96 nack"],
      ].entries()) {
        for (const line of [...expected, "a=recvonly", "a=rtcp-mux"]) {
          // Where the media goes is the candidates' to say.
          const found = sections[at]?.some((each) => each.replace(/^(m=\w+) \d+/, "$1 9") === line);
          assert.ok(found, `${line} in ${answer}`);
        }
      }
      // Since it tells no candidates, ours must do.
      for (const each of [/^a=candidate:.* typ host/m, /^a=setup:passive\r$/m, /^a=ice-ufrag:/m, /^a=fingerprint:sha-256 /m]) {
        assert.match(answer, each);
      }
      const url = new URL(response.headers.get("location") ?? "", stage.server.url);
      assert.equal((await fetch(url, { method: "DELETE", headers: { "user-agent": AGENT } })).status, 200);
    }),
  );
}

/** Waits until the viewer decodes pictures of this layer. */
async function shows(viewer: Viewer, rid: keyof typeof WIDTHS): Promise<void> {
  // OBS hears no keyframe requests: a change waits for the encoder's next keyframe, two seconds at the most.
  await until(`layer ${rid} is seen`, async () => (await viewer.report()).stats.width === WIDTHS[rid]);
}

test(
  "libdatachannel as OBS 32.1 sends simulcast: its layers are told apart, and each can be watched",
  stage.act(async () => {
    const { server } = stage;
    const publisher = Program.start(process.execPath, ["--import", "tsx", OBS, server.whip("obs"), "3"]);
    stage.closeLater(() => publisher.kill());
    const state = await until(
      "all layers are sent",
      async () => {
        publisher.alive();
        const now = await server.stream("obs");
        const layers = now?.tracks.find(({ kind }) => kind === "video")?.layers ?? [];
        return layers.length === 3 && layers.every(({ active, width }) => active && width !== null) && now;
      },
      { withinMs: 20_000 },
    );
    const layers = state.tracks.find(({ kind }) => kind === "video")?.layers ?? [];
    assert.deepEqual(Object.fromEntries(layers.map(({ rid, width }) => [rid, width])), WIDTHS);

    const viewer = await stage.viewer();
    const session = await viewer.start(server.whep("obs"));
    await shows(viewer, "0");
    for (const rid of ["2", "1", "0"] as const) {
      const headers = { "content-type": "application/json" };
      const chosen = await fetch(`${session}/layer`, { method: "POST", headers, body: JSON.stringify({ rid }) });
      assert.equal(chosen.status, 200, await chosen.text());
      await shows(viewer, rid);
      const before = (await viewer.report()).stats.framesDecoded;
      await until(`layer ${rid} moves`, async () => (await viewer.report()).stats.framesDecoded > before + 30);
      assert.equal((await viewer.report()).stats.width, WIDTHS[rid], "it stays");
    }
    const { stats } = await viewer.report();
    assert.ok(stats.audioEnergy > 0.001, `no sound: energy ${stats.audioEnergy}`);
    assert.equal(stats.packetsLost, 0, "no gap in numbers");
    assert.equal(stats.pliCount, 0, `the decoder missed something: ${JSON.stringify(stats)}`);

    publisher.dismiss();
    assert.equal((await publisher.report<{ left: number }>()).left, 200, "the goodbye");
  }),
);
