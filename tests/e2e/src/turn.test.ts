// A viewer whose network lets nothing pass but the web's port and a TURN server's, both TCP.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { flv } from "./support/ffmpeg.ts";
import { record } from "./support/figures.ts";
import { FarNetwork, IPV4, NO_NETWORKS } from "./support/network.ts";
import { Stage } from "./support/stage.ts";
import { Coturn } from "./support/turn.ts";
import { until } from "./support/wait.ts";

const PORT = 3478;
const SECRET = "a-secret-of-coturn-and-sluice";

describe("Behind a firewall", { skip: NO_NETWORKS }, () => {
  let far: FarNetwork;
  let coturn: Coturn;
  before(async () => {
    far = await FarNetwork.open(IPV4);
    coturn = await Coturn.start({ host: IPV4.near, port: PORT, secret: SECRET });
  });
  const stage = Stage.set(
    {
      HTTP__LISTEN: "0.0.0.0:0",
      WEBRTC__LISTEN: "0.0.0.0:0",
      WEBRTC__ADVERTISE: IPV4.near,
      AUTH__ALLOW_OPEN: "true",
      ICE__SERVERS: `turn:${IPV4.near}:${PORT}?transport=tcp`,
      ICE__TURN_SECRET: SECRET,
    },
    "0.0.0.0",
  );
  after(async () => {
    await coturn.stop();
    await far.close();
  });

  test(
    "A viewer that reaches nothing but HTTP and coturn, by TCP, plays through coturn",
    stage.act(async () => {
      const { server, pages } = stage;
      await stage.ffmpeg({ source: 1, gopSeconds: 2 }, flv(server.rtmp("relayed")));
      await until("the stream is live", () => server.stream("relayed"));
      const viewer = await stage.viewer(far);
      const open = [new URL(server.url).port, new URL(pages.url("viewer")).port, String(PORT)].join(",");
      stage.closeLater(() => far.loseNothing());
      await far.lose("far", "-p", "udp");
      await far.lose("near", "-p", "tcp", "-m", "multiport", "!", "--dports", open);

      const began = Date.now();
      const url = await viewer.watch(far.reach(server.whep("relayed")));
      await viewer.sees(1).catch((error: unknown) => {
        throw new Error(`${String(error)}\ncoturn's log:\n${coturn.log.slice(-40).join("\n")}`);
      });
      record("viewer behind a firewall, by TURN over TCP: POST to pictures", Date.now() - began, "ms", 3000);
      const side = await viewer.side();
      assert.equal(side?.type, "relay", `${JSON.stringify(side)}\n${coturn.log.join("\n")}`);
      assert.equal(side?.relayProtocol, "tcp");
      const { stats } = await viewer.report();
      assert.equal(stats.packetsLost, 0, JSON.stringify(stats));
      assert.equal((await fetch(url.replace(IPV4.near, "127.0.0.1"))).status, 204, "the session is not there");
      const log = server.log.join("\n");
      assert.ok(!log.includes(SECRET), "the secret is in the log");
    }),
  );
});
