// A stream that is sent on by WHIP, where packets are lost on the way.

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

describe("Between two servers", { skip: NO_NETWORKS }, () => {
  let network: FarNetwork;
  before(async () => {
    network = await FarNetwork.open(IPV4);
  });
  const stage = Stage.set(DOORS, "::");
  after(() => network.close());

  test(
    "What is lost on the way of a stream that is sent on by WHIP is asked for again, and sent again",
    stage.act(async () => {
      const { server } = stage;
      const near = await Server.start({ RELAY__PUSH: `cam1 ${network.reach(server.whip("copy"))}` });
      stage.closeLater(async () => void (await near.stop()));
      await stage.ffmpeg({ source: 1, gopSeconds: 10 }, flv(near.rtmp("cam1")));
      await until("the copy is live", () => server.stream("copy"), { withinMs: 15_000 });
      const viewer = await stage.viewer(network);
      await viewer.start(network.reach(server.whep("copy")));
      await viewer.sees(1);
      // Both servers are on this side of the link, whose viewers lose nothing.
      const port = server.addresses.webrtc.split(":").at(-1) ?? "";
      const rule = ["PREROUTING", "-i", "lo", "-p", "udp", "--dport", port, ...oneIn(15), "-j", "DROP"];
      const change = async (how: string): Promise<void> => void (await run("iptables", ["-w", "-t", "raw", how, ...rule]));
      await change("-A");
      stage.closeLater(() => change("-D"));
      await viewer.reset();
      await measureFor(4000);
      const { shown, unreadable, stats } = await viewer.report();
      assert.ok(shown.length > 60, `${shown.length} pictures in 4 s: ${JSON.stringify(stats)}`);
      assert.ok(unreadable <= 1, `${unreadable} pictures were damaged`);
      const asked = await server.metric("sluice_nack_total", 'direction="out"');
      record("sent on by WHIP, one packet in 15 lost: asked for again", asked, "packets", 1000);
      assert.ok(asked > 10, `${asked} packets were asked for again`);
      assert.equal((await near.stream("cam1"))?.pushes[0]?.last_failure, null);
    }),
  );
});
