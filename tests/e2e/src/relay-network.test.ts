// A stream that is sent on to another server, where packets are lost on the way.

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

  test(
    "A server that is suddenly not there any more is noticed, by RTMP and by WHIP, and found again",
    stage.act(async () => {
      const { server } = stage;
      const rtmp = `rtmp://${network.link.near}:${server.addresses.rtmp?.split(":").at(-1) ?? ""}/live/copy`;
      const near = await Server.start({ RELAY__PUSH: `cam1 ${rtmp},cam1 ${network.reach(server.whip("copy2"))}` });
      stage.closeLater(async () => void (await near.stop()));
      await stage.ffmpeg({ source: 1, gopSeconds: 1 }, flv(near.rtmp("cam1")));
      const states = async (): Promise<string[]> => (await near.stream("cam1"))?.pushes.map((push) => push.state) ?? [];
      const all = async (state: string): Promise<boolean> => (await states()).join() === `${state},${state}`;
      await until("both are live", () => all("live"), { withinMs: 15_000 });
      // Nothing arrives, and nothing says so: the machine there has lost its power, or a cable.
      const gone = ["PREROUTING", "-i", "lo", "-d", network.link.near, "-j", "DROP"];
      const change = async (how: string): Promise<void> => void (await run("iptables", ["-w", "-t", "raw", how, ...gone]));
      await change("-A");
      const beganMs = Date.now();
      let back = false;
      stage.closeLater(() => (back ? undefined : change("-D")));
      await until("that is noticed", async () => !(await states()).includes("live"), { withinMs: 30_000 });
      record("a server that has gone is noticed after", (Date.now() - beganMs) / 1000, "s", 20);
      const failures = (await near.stream("cam1"))?.pushes.map((push) => push.last_failure?.reason) ?? [];
      assert.match(failures[0] ?? "", /the connection is lost: .*timed out|it took nothing/);
      assert.match(failures[1] ?? "", /the connection for media is lost/);
      await change("-D");
      back = true;
      await until("both are live again", () => all("live"), { withinMs: 40_000 });
    }),
  );
});
