// The client library on networks that change under it.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { flv } from "./support/ffmpeg.ts";
import { record } from "./support/figures.ts";
import { FarNetwork, IPV4, NO_NETWORKS } from "./support/network.ts";
import { Stage } from "./support/stage.ts";
import { until } from "./support/wait.ts";

describe("Over a network", { skip: NO_NETWORKS }, () => {
  let far: FarNetwork;
  before(async () => {
    far = await FarNetwork.open(IPV4);
  });
  const doors = { HTTP__LISTEN: "0.0.0.0:0", WEBRTC__LISTEN: "0.0.0.0:0", WEBRTC__ADVERTISE: IPV4.near, AUTH__ALLOW_OPEN: "true" };
  const stage = Stage.set(doors, "0.0.0.0");
  after(() => far.close());

  test(
    "A viewer and a publisher that go over to another network go on in their sessions, by an ICE restart",
    stage.act(async () => {
      const { server } = stage;
      const library = far.reach(server.url).replace(/\/$/, "");
      await stage.ffmpeg({ source: 1, gopSeconds: 2 }, flv(server.rtmp("seen")));
      await until("the stream is live", () => server.stream("seen"));
      const player = await stage.client(far);
      await player.watch({ library, endpoint: far.reach(server.whep("seen")) });
      const studio = await stage.client(far);
      await studio.publish({ library, endpoint: far.reach(server.whip("shown")) });
      const before = [await player.goesOn(), await studio.goesOn()];
      for (const last of [3, 4]) {
        const beganMs = Date.now();
        // The address in use is gone at once, as when a phone leaves a building's Wi-Fi.
        await far.moveTo(`198.18.0.${last}`);
        const after = [await player.goesOn(), await studio.goesOn()];
        record(`client's address is replaced by ...${last}: pictures go on after`, Date.now() - beganMs, "ms", 8000);
        assert.deepEqual(after.map(({ resource }) => resource), before.map(({ resource }) => resource));
        assert.deepEqual(after.map(({ reconnects }) => reconnects), [0, 0]);
      }
    }),
  );
});
