// A path for media that can be cut: the server advertises its port, and browsers reach the server through it.

import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { once } from "node:events";

/** One browser's socket, seen from here, with one of ours that speaks to the server in its name. */
interface Way {
  readonly toServer: Socket;
  cut: boolean;
}

export class MediaPath {
  #ways = new Map<string, Way>();
  #blocked = false;
  #server: { address: string; port: number } | undefined;

  private constructor(readonly front: Socket) {
    front.on("message", (datagram, from) => this.#onward(datagram, from));
  }

  static async open(): Promise<MediaPath> {
    const front = createSocket("udp4");
    front.bind(0, "127.0.0.1");
    await once(front, "listening");
    return new MediaPath(front);
  }

  /** What the server is to advertise. */
  get advertised(): string {
    return `127.0.0.1:${this.front.address().port}`;
  }

  /** `server`: where it really listens. */
  leadTo(server: string): void {
    const [address = "", port = ""] = server.split(":");
    this.#server = { address, port: Number(port) };
  }

  /** Nothing passes any more from or to the sockets that browsers have used so far; others pass. */
  cut(): void {
    for (const way of this.#ways.values()) way.cut = true;
  }

  /** From now on nothing passes at all; or everything does that was not cut. */
  block(blocked: boolean): void {
    this.#blocked = blocked;
  }

  close(): void {
    this.front.close();
    for (const { toServer } of this.#ways.values()) toServer.close();
  }

  #onward(datagram: Buffer, from: RemoteInfo): void {
    const key = `${from.address}:${from.port}`;
    let way = this.#ways.get(key);
    if (way === undefined) {
      const toServer = createSocket("udp4");
      const made: Way = { toServer, cut: false };
      toServer.on("message", (back) => {
        if (!made.cut && !this.#blocked) this.front.send(back, from.port, from.address);
      });
      this.#ways.set(key, made);
      way = made;
    }
    if (!way.cut && !this.#blocked && this.#server) way.toServer.send(datagram, this.#server.port, this.#server.address);
  }
}
