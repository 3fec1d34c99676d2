// RTMP connections that do nothing: what they cost, and whom they keep out.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { test } from "node:test";
import { flv } from "./support/ffmpeg.ts";
import { record } from "./support/figures.ts";
import { Stage } from "./support/stage.ts";
import { measureFor, until } from "./support/wait.ts";

const IDLE = 1000;
const PLACES = 1020;
const stage = Stage.set({ "rtmp.connections_max": String(PLACES) });

/** Resident memory in KiB, and processor time in clock ticks (a hundredth of a second). */
async function usage(pid: number): Promise<{ kib: number; ticks: number }> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return { kib: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]), ticks: Number(fields[11]) + Number(fields[12]) };
}

/** One that has shaken hands and says no more. */
async function idle(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  stage.closeLater(() => void socket.destroy());
  socket.on("error", () => undefined);
  await once(socket, "connect");
  const [c0, c1] = [Buffer.from([3]), Buffer.alloc(1536)];
  socket.write(Buffer.concat([c0, c1]));
  let received = 0;
  await new Promise<void>((resolve, reject) => {
    socket.on("close", () => reject(new Error("the connection was closed")));
    socket.on("data", (chunk) => {
      received += chunk.length;
      if (received >= 1 + 2 * 1536) resolve();
    });
  });
  socket.write(Buffer.alloc(1536));
  return socket;
}

test(
  `${IDLE} idle RTMP connections cost little, and keep no publisher out`,
  stage.act(async () => {
    const pid = stage.server.process.pid ?? 0;
    const port = Number(new URL(stage.server.rtmp("x").replace("rtmp:", "http:")).port);
    await idle(port);
    const before = await usage(pid);
    const sockets: Socket[] = [];
    for (let at = 0; at < IDLE; at += 50) {
      sockets.push(...(await Promise.all(Array.from({ length: 50 }, () => idle(port)))));
    }
    const opened = await usage(pid);
    await measureFor(2000);
    const after = await usage(pid);
    const each = (after.kib - before.kib) / IDLE;
    record("An idle RTMP connection: memory", each, "KiB", 16);
    record(`${IDLE} idle RTMP connections: of one core`, (after.ticks - opened.ticks) / 2, "%", 1);
    assert.ok(each < 32, `${each} KiB for each connection`);

    // More come, and more than there is room for: those that were first make room, and a publisher comes in.
    const firstClosed = once(sockets[0] as Socket, "close");
    const more = await Promise.all(Array.from({ length: 100 }, () => idle(port)));
    await firstClosed;
    await stage.ffmpeg({ source: 1, gopSeconds: 2 }, flv(stage.server.rtmp("through")));
    await until("the stream is live", () => stage.server.stream("through"));
    assert.equal(more.at(-1)?.destroyed, false, "the newest one was sent away");
    assert.match(stage.server.tail(), /its place was needed/);
  }),
);
