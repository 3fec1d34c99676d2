// A viewer whose network lets nothing pass but the web's port and a TURN server's, both TCP.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { flv } from "./support/ffmpeg.ts";
import { record } from "./support/figures.ts";
import { FarNetwork, IPV4, NO_NETWORKS } from "./support/network.ts";
import { Server } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { Coturn, type TurnOptions } from "./support/turn.ts";
import { until } from "./support/wait.ts";

const PORT = 3478;
const TLS_PORT = 5349;
const SECRET = "a-secret-of-coturn-and-sluice";
const USER = { username: "everybody", credential: "the-same-for-all-of-them" };
/** So that a browser takes a certificate that nobody has signed; it is for tests alone. */
const TAKES_ANY_CERTIFICATE = ["--ignore-certificate-errors"];

interface Way {
  /** How the viewer gets to coturn. */
  name: string;
  /** What the server tells its clients of. */
  uri: string;
  port: number;
  protocol: string;
  credentials: TurnOptions["credentials"];
  flags: string[];
}

const WAYS: Way[] = [
  {
    name: "TURN over TCP, credentials of its own",
    uri: `turn:${IPV4.near}:${PORT}?transport=tcp`,
    port: PORT,
    protocol: "tcp",
    credentials: { secret: SECRET },
    flags: [],
  },
  {
    name: "TURN over TCP, the same credentials for everybody",
    uri: `turn:${IPV4.near}:${PORT}?transport=tcp`,
    port: PORT,
    protocol: "tcp",
    credentials: USER,
    flags: [],
  },
  {
    name: "TURN over TLS",
    uri: `turns:${IPV4.near}:${TLS_PORT}?transport=tcp`,
    port: TLS_PORT,
    protocol: "tls",
    credentials: { secret: SECRET },
    flags: TAKES_ANY_CERTIFICATE,
  },
];

function settings({ uri, credentials }: Way): Record<string, string> {
  const known: Record<string, string> =
    "secret" in credentials
      ? { ICE__TURN_SECRET: credentials.secret }
      : { ICE__TURN_USERNAME: credentials.username, ICE__TURN_CREDENTIAL: credentials.credential };
  const doors = { HTTP__LISTEN: "0.0.0.0:0", WEBRTC__LISTEN: "0.0.0.0:0", AUTH__ALLOW_OPEN: "true" };
  return { ...doors, WEBRTC__ADVERTISE: IPV4.near, ICE__SERVERS: uri, ...known };
}

describe("Behind a firewall", { skip: NO_NETWORKS }, () => {
  let far: FarNetwork;
  before(async () => {
    far = await FarNetwork.open(IPV4);
  });
  const stage = Stage.set({}, "0.0.0.0");
  after(() => far.close());

  for (const way of WAYS) {
    test(
      `A viewer that reaches nothing but HTTP and coturn plays through coturn: ${way.name}`,
      stage.act(async () => {
        const { pages } = stage;
        const tls = way.protocol === "tls" ? { tlsPort: way.port } : {};
        const coturn = await Coturn.start({ host: IPV4.near, port: PORT, ...tls, credentials: way.credentials });
        stage.closeLater(() => coturn.stop());
        const server = await Server.start(settings(way));
        stage.closeLater(async () => void (await server.stop()));
        await stage.ffmpeg({ source: 1, gopSeconds: 2 }, flv(server.rtmp("relayed")));
        await until("the stream is live", () => server.stream("relayed"));
        const viewer = await stage.viewer(far, way.flags);
        const open = [new URL(server.url).port, new URL(pages.url("viewer")).port, String(way.port)].join(",");
        stage.closeLater(() => far.loseNothing());
        await far.lose("far", "-p", "udp");
        await far.lose("near", "-p", "tcp", "-m", "multiport", "!", "--dports", open);

        const began = Date.now();
        const url = await viewer.watch(far.reach(server.whep("relayed")));
        await viewer.sees(1).catch((error: unknown) => {
          throw new Error(`${String(error)}\ncoturn's log:\n${coturn.log.slice(-40).join("\n")}`);
        });
        record(`viewer behind a firewall, ${way.name}: POST to pictures`, Date.now() - began, "ms", 3000);
        const side = await viewer.side();
        assert.equal(side?.type, "relay", `${JSON.stringify(side)}\n${coturn.log.join("\n")}`);
        assert.equal(side?.relayProtocol, way.protocol);
        const { stats } = await viewer.report();
        assert.equal(stats.packetsLost, 0, JSON.stringify(stats));
        assert.equal((await fetch(url.replace(IPV4.near, "127.0.0.1"))).status, 204, "the session is not there");
        const log = server.log.join("\n");
        for (const secret of Object.values(way.credentials)) assert.ok(!log.includes(secret), "the secret is in the log");
      }),
    );
  }
});
