// A stream that is fetched from another server, where packets are lost on the way.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { flv } from "./support/ffmpeg.ts";
import { record } from "./support/figures.ts";
import { FarNetwork, IPV4, NO_NETWORKS, oneIn } from "./support/network.ts";
import { Server } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { measureFor, until } from "./support/wait.ts";

const run = promisify(execFile);
const DOORS = { HTTP__LISTEN: "[::]:0", RTMP__LISTEN: "[::]:0", WEBRTC__LISTEN: "[::]:0", WEBRTC__ADVERTISE: "", AUTH__ALLOW_OPEN: "true" };

describe("From another server", { skip: NO_NETWORKS }, () => {
  let network: FarNetwork;
  before(async () => {
    network = await FarNetwork.open(IPV4);
  });
  const stage = Stage.set(DOORS, "::");
  after(() => network.close());

  test(
    "What is lost on the way of a stream that is fetched by WHEP is asked for again; a source that is suddenly not there any more is noticed, and found again",
    stage.act(async () => {
      const { server } = stage;
      await stage.ffmpeg({ source: 1, gopSeconds: 10 }, flv(server.rtmp("cam1")));
      await until("the source is live", () => server.stream("cam1"), { withinMs: 15_000 });
      const near = await Server.start({ RELAY__PULL: `cam1 ${network.reach(server.whep("cam1"))}` });
      stage.closeLater(async () => void (await near.stop()));
      await until("it is fetched", () => near.stream("cam1"), { withinMs: 15_000 });
      const viewer = await stage.viewer();
      await viewer.start(near.whep("cam1"));
      await viewer.sees(1);
      // Both servers are on this side of the link; what the viewer is sent comes from another port.
      const port = server.addresses.webrtc.split(":").at(-1) ?? "";
      const change = async (how: string, rule: string[]): Promise<void> => {
        await run("iptables", ["-w", "-t", "raw", how, "PREROUTING", "-i", "lo", ...rule, "-j", "DROP"]);
      };
      const lossy = ["-p", "udp", "--sport", port, ...oneIn(15)];
      await change("-A", lossy);
      await viewer.reset();
      await measureFor(4000);
      const { shown, unreadable, stats } = await viewer.report();
      await change("-D", lossy);
      assert.ok(shown.length > 60, `${shown.length} pictures in 4 s: ${JSON.stringify(stats)}`);
      assert.ok(unreadable <= 1, `${unreadable} pictures were damaged`);
      const asked = await near.metric("sluice_nack_total", 'direction="out"');
      record("fetched by WHEP, one packet in 15 lost: asked for again", asked, "packets", 1000);
      assert.ok(asked > 10, `${asked} packets were asked for again`);

      const gone = ["-d", network.link.near];
      await change("-A", gone);
      let back = false;
      stage.closeLater(() => (back ? undefined : change("-D", gone)));
      const beganMs = Date.now();
      await until("that is noticed", async () => (await near.stream("cam1")) === undefined, { withinMs: 30_000 });
      record("a source that has gone is noticed after", (Date.now() - beganMs) / 1000, "s", 12);
      await change("-D", gone);
      back = true;
      await until("it is fetched again", () => near.stream("cam1"), { withinMs: 40_000 });
      await viewer.reset();
      await viewer.sees(1, 20_000);
    }),
  );
});
