// RTMP in TLS, on RTMP's own port.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect as connectPlainly, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { connect, createServer } from "node:tls";
import { flv, flvForPlayer } from "./support/ffmpeg.ts";
import { freePort, Server } from "./support/server.ts";
import { Stage } from "./support/stage.ts";
import { until } from "./support/wait.ts";

const stage = Stage.set();

/** A certificate of its own, and its key, in files that are there until the stage is cleared. */
class SelfSigned {
  readonly folder = mkdtempSync(path.join(tmpdir(), "sluice-rtmps-"));
  readonly certificate = path.join(this.folder, "certificate.pem");
  readonly key = path.join(this.folder, "key.pem");

  constructor() {
    this.renew();
    stage.closeLater(() => rmSync(this.folder, { recursive: true }));
  }

  renew(): void {
    const config = path.join(this.folder, "openssl.cnf");
    // A server's certificate, and no authority's.
    const extensions = "basicConstraints = critical, CA:FALSE\nsubjectAltName = DNS:localhost\n";
    writeFileSync(config, `[req]\ndistinguished_name = name\nx509_extensions = extensions\n[name]\n[extensions]\n${extensions}`);
    const made = ["req", "-x509", "-config", config, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost"];
    execFileSync("openssl", [...made, "-keyout", this.key, "-out", this.certificate], { stdio: "ignore" });
  }
}

async function start(settings: Record<string, string>): Promise<Server> {
  const server = await Server.start(settings);
  stage.closeLater(async () => void (await server.stop()));
  return server;
}

/** The fingerprint of the certificate that is shown. */
async function shown(server: Server): Promise<string> {
  const { hostname, port } = new URL(server.rtmp("any"));
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate().fingerprint256);
      socket.destroy();
    });
    socket.on("error", reject);
  });
}

function rtmps(server: Server, stream: string): string[] {
  const [url = "", ...rest] = flv(server.rtmp(stream).replace("rtmp:", "rtmps:")).toReversed();
  return [...rest.toReversed(), "-tls_verify", "0", url];
}

test(
  "RTMPS and RTMP come in by one port, and a renewed certificate is shown without a restart",
  stage.act(async () => {
    const files = new SelfSigned();
    const server = await start({ RTMP__TLS: `${files.certificate},${files.key}` });
    const publisher = await stage.ffmpeg({ source: 1, gopSeconds: 1 }, rtmps(server, "tls"));
    await stage.ffmpeg({ source: 2, gopSeconds: 1 }, flv(server.rtmp("plain")));
    for (const [stream, source] of [["tls", 1], ["plain", 2]] as const) {
      await until(`${stream} is live`, () => server.stream(stream)).catch((error: unknown) => {
        throw new Error(`${String(error)}\n${publisher.stderr.join("\n")}\n${server.tail()}`);
      });
      const viewer = await stage.viewer();
      await viewer.start(server.whep(stream));
      await viewer.sees(source);
    }
    const before = await shown(server);
    files.renew();
    server.process.kill("SIGHUP");
    await until("another certificate is shown", async () => (await shown(server)) !== before);
    assert.equal(publisher.ended, undefined, "a connection that is there stays");
  }),
);

test(
  "where plain RTMP is not taken, that is said, and RTMPS is",
  stage.act(async () => {
    const files = new SelfSigned();
    const server = await start({ RTMP__TLS: `${files.certificate},${files.key}`, RTMP__PLAIN: "false" });
    const plain = await stage.ffmpeg({ source: 1, gopSeconds: 1 }, flv(server.rtmp("door")));
    assert.notEqual(await plain.end(), 0);
    await until("the log says why", () => server.log.some((line) => line.includes("use rtmps://")));
    assert.equal(await server.metric("sluice_sessions_total", 'protocol="rtmp",outcome="failed"'), 1);
    await stage.ffmpeg({ source: 1, gopSeconds: 1 }, rtmps(server, "door"));
    await until("the stream is live", () => server.stream("door"));
  }),
);

test(
  "a stream is sent on by RTMPS to a server whose certificate the system trusts, and to no other",
  stage.act(async () => {
    const files = new SelfSigned();
    const far = await start({ RTMP__TLS: `${files.certificate},${files.key}`, RTMP__PLAIN: "false", RTMP__LISTEN: "127.0.0.1:0" });
    const { port } = new URL(far.rtmp("any").replace("rtmp:", "http:"));
    const push = { RELAY__PUSH: `cam1 rtmps://localhost:${port}/live/copy` };
    const others = new SelfSigned();
    for (const [trusted, isTaken] of [[others, false], [files, true]] as const) {
      const near = await Server.start(push, { SSL_CERT_FILE: trusted.certificate });
      stage.closeLater(async () => void (await near.stop()));
      await stage.ffmpeg({ source: 1, gopSeconds: 1 }, flv(near.rtmp("cam1")));
      if (isTaken) {
        await until("the copy is live", () => far.stream("copy"));
      } else {
        const refused = await until("it is refused", async () => (await near.stream("cam1"))?.pushes.find(({ problem }) => problem !== null));
        assert.match(refused.problem ?? "", /TLS.*certificate/);
        assert.equal(await far.stream("copy"), undefined);
      }
    }
  }),
);

test(
  "a stream is fetched by RTMPS from a source whose certificate the system trusts, and from no other",
  stage.act(async () => {
    const files = new SelfSigned();
    const behind = await freePort();
    const door = createServer({ key: readFileSync(files.key), cert: readFileSync(files.certificate) }, (outside) => {
      const inside = connectPlainly(behind, "127.0.0.1");
      for (const socket of [outside, inside]) socket.on("error", () => undefined);
      outside.pipe(inside).pipe(outside);
    });
    stage.closeLater(() => void door.close());
    await once(door.listen(0, "127.0.0.1"), "listening");
    await stage.ffmpeg({ source: 3, gopSeconds: 1 }, flvForPlayer(`rtmp://127.0.0.1:${behind}/live/key`));
    const pull = { RELAY__PULL: `cam1 rtmps://localhost:${(door.address() as AddressInfo).port}/live/key` };
    const stranger = await Server.start(pull, { SSL_CERT_FILE: new SelfSigned().certificate });
    stage.closeLater(async () => void (await stranger.stop()));
    const problem = await until("it is refused", async () => (await stranger.pull("cam1")).problem ?? undefined);
    assert.match(problem, /TLS.*certificate/);
    const friend = await Server.start(pull, { SSL_CERT_FILE: files.certificate });
    stage.closeLater(async () => void (await friend.stop()));
    await until("it is live", () => friend.stream("cam1"));
    const viewer = await stage.viewer();
    await viewer.start(friend.whep("cam1"));
    await viewer.sees(3);
    assert.equal(await stranger.stream("cam1"), undefined);
  }),
);
