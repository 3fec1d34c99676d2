// Publishers of different codecs follow each other, and a viewer cannot decode all of them.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { playing } from "./support/browser.ts";
import { flv } from "./support/ffmpeg.ts";
import { Stage } from "./support/stage.ts";
import { until } from "./support/wait.ts";

const stage = Stage.set();

/** A browser whose first sessions know VP8 only; in their offers, or in their answers to the server's offers too. */
function vp8Only(sessions: number, inAnswers = true): (page: Page) => Promise<unknown> {
  return (page) =>
    page.addInitScript(({ sessions, inAnswers }) => {
      let left = sessions;
      const add = RTCPeerConnection.prototype.addTransceiver;
      RTCPeerConnection.prototype.addTransceiver = function (...given) {
        const transceiver = add.apply(this, given);
        if (transceiver.receiver.track.kind === "video" && left > 0) {
          left -= 1;
          const codecs = RTCRtpReceiver.getCapabilities("video")?.codecs ?? [];
          transceiver.setCodecPreferences(codecs.filter(({ mimeType }) => /\/(vp8|rtx)$/i.test(mimeType)));
        }
        return transceiver;
      };
      if (!inAnswers) return;
      const answer = RTCPeerConnection.prototype.createAnswer as () => Promise<RTCSessionDescriptionInit>;
      Object.assign(RTCPeerConnection.prototype, {
        async createAnswer(this: RTCPeerConnection): Promise<RTCSessionDescriptionInit> {
          for (const transceiver of left > 0 ? this.getTransceivers() : []) {
            if (transceiver.receiver.track.kind !== "video") continue;
            const codecs = RTCRtpReceiver.getCapabilities("video")?.codecs ?? [];
            transceiver.setCodecPreferences(codecs.filter(({ mimeType }) => /\/(vp8|rtx)$/i.test(mimeType)));
          }
          return answer.call(this);
        },
      });
    }, { sessions, inAnswers });
}

const ended = (): Promise<number> =>
  stage.server.metric("sluice_sessions_total", 'protocol="whep",outcome="undecodable"');

test(
  "A viewer that cannot decode the next publisher is told so, and plays on by itself with the one after",
  stage.act(async () => {
    const { server } = stage;
    const first = await stage.publisher({ endpoint: server.whip("mixed"), source: 1, codec: "VP8" });
    const { page, complaints } = await stage.page("/watch/mixed", async (page) => {
      // By HLS it might play all the same.
      await page.route("**/hls/**", (route) => route.abort());
      await vp8Only(Number.MAX_SAFE_INTEGER)(page);
    });
    await playing(page);

    const second = await stage.ffmpeg({ source: 2, gopSeconds: 2 }, flv(server.rtmp("mixed")));
    await page.getByText("This browser cannot play it").waitFor({ timeout: 15_000 });
    const explanation = (await page.locator("#explanation").textContent()) ?? "";
    assert.match(explanation, /H264/, "what is sent");
    assert.match(explanation, /VP8/, "what this browser has");
    assert.equal(await ended(), 1);
    assert.equal(await server.metric("sluice_undecodable_tracks_total", 'codec="H264"'), 1);
    const warnings = server.log.filter((line) => line.includes("cannot decode what the publisher sends"));
    assert.equal(warnings.length, 1, warnings.join("\n"));
    const state = await server.stream("mixed");
    assert.deepEqual(state?.notices.map(({ code }) => code).filter((code) => code === "undecodable"), ["undecodable"]);

    await second.kill();
    await first.close();
    await stage.publisher({ endpoint: server.whip("mixed"), source: 3, codec: "VP8" });
    await playing(page);
    assert.deepEqual(complaints, []);
  }),
);

test(
  "A viewer that offered too few codecs answers the server's offer, and plays",
  stage.act(async () => {
    const { server } = stage;
    const refused = await server.metric("sluice_sessions_total", 'outcome="refused"');
    await stage.ffmpeg({ source: 1, gopSeconds: 2 }, flv(server.rtmp("counter")));
    const asked: string[] = [];
    const { page, complaints } = await stage.page("/watch/counter", async (page) => {
      page.on("response", (response) => {
        if (response.url().includes("/whep/")) asked.push(`${response.request().method()} ${response.status()}`);
      });
      await vp8Only(Number.MAX_SAFE_INTEGER, false)(page);
    });
    await playing(page);
    assert.deepEqual(asked.slice(0, 2), ["POST 406", "PATCH 204"]);
    assert.equal(await server.metric("sluice_sessions_total", 'outcome="refused"'), refused, "it was not refused");
    const told = (await server.stream("counter"))?.notices.filter(({ code }) => code === "undecodable") ?? [];
    assert.match(told.map(({ text }) => text).join("\n"), /^A viewer cannot decode this: H264 \(.*\) is sent, VP8 can be decoded\.[^\n]*$/);
    assert.deepEqual(complaints, []);
  }),
);

test(
  "A viewer whose WebRTC cannot decode the stream sees it by HLS",
  stage.act(async () => {
    const { server } = stage;
    await stage.ffmpeg({ source: 1, gopSeconds: 1 }, flv(server.rtmp("other-way")));
    await until("the stream is live", () => server.stream("other-way"));
    const { page, complaints } = await stage.page("/watch/other-way", vp8Only(Number.MAX_SAFE_INTEGER));
    await page.getByTestId("transport").getByText("HLS", { exact: true }).waitFor({ timeout: 20_000 });
    await playing(page);
    assert.deepEqual(complaints, []);
  }),
);

test(
  "A viewer whose session was made for another codec reconnects by itself and plays",
  stage.act(async () => {
    const { server } = stage;
    const before = await ended();
    await stage.publisher({ endpoint: server.whip("change"), source: 1, codec: "VP8" });
    const { page } = await stage.page("/watch/change", vp8Only(1));
    await playing(page);
    await stage.ffmpeg({ source: 2, gopSeconds: 2 }, flv(server.rtmp("change")));
    await until("the old session ends", async () => (await ended()) === before + 1);
    await playing(page);
    const sent = await until("the new session gets H264", async () => {
      const state = await server.stream("change");
      return state?.tracks.some(({ codec }) => codec === "H264") && state.viewers[0]?.packets_sent;
    });
    assert.ok(sent > 0);
  }),
);
