import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { countered, created, FakeMediaStream, FakePeer, fakeServer, refused } from "./testing";
import { watch } from "./whep";

const URL_ = "https://sluice.example/whep/cam1";
let peer: FakePeer;
const createPeer = (): RTCPeerConnection => {
  peer = new FakePeer();
  return peer as unknown as RTCPeerConnection;
};

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("MediaStream", FakeMediaStream);
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("watch", () => {
  it("posts an offer for audio and video, in stereo and at once, with the token in the header only", async () => {
    const server = fakeServer(() => created());
    const session = await watch({ url: URL_, token: "secret", fetch: server.fetch, createPeer });
    const [post] = server.asked;
    expect(post).toMatchObject({ method: "POST", url: URL_ });
    expect(post?.headers.get("authorization")).toBe("Bearer secret");
    expect(post?.headers.get("content-type")).toBe("application/sdp");
    expect(post?.body).toContain("a=fmtp:111 stereo=1");
    expect(peer.localDescription?.sdp).toBe(post?.body);
    expect(peer.transceivers.map(({ kind, direction }) => [kind, direction])).toEqual([
      ["video", "recvonly"],
      ["audio", "recvonly"],
    ]);
    expect(peer.transceivers.every(({ receiver }) => receiver["jitterBufferTarget"] === 0)).toBe(true);
    expect(session.resource).toBe("https://sluice.example/whep/cam1/1");
  });

  it("ends the session on the server once, in a request that outlives the page", async () => {
    const server = fakeServer(() => created());
    const session = await watch({ url: URL_, token: "secret", fetch: server.fetch, createPeer });
    session.stop();
    session.stop();
    const deletes = server.asked.filter(({ method }) => method === "DELETE");
    expect(deletes).toHaveLength(1);
    expect(deletes[0]).toMatchObject({ url: session.resource, keepalive: true });
    expect(deletes[0]?.headers.get("authorization")).toBe("Bearer secret");
    expect(peer.closed, "the DELETE goes first").toBe(false);
    await vi.advanceTimersByTimeAsync(0);
    expect(peer.closed).toBe(true);
  });

  it("closes the connection of a server that does not answer the DELETE", async () => {
    const server = fakeServer(() => created());
    const deaf: typeof fetch = (url, init) =>
      init?.method === "DELETE" ? new Promise(() => undefined) : server.fetch(url, init);
    const session = await watch({ url: URL_, fetch: deaf, createPeer });
    session.stop();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(peer.closed).toBe(true);
  });

  it("shows its token again to the node that it is redirected to", async () => {
    const node = "https://b.example/whep/cam1?redirected=1";
    const at = (response: Response): Response =>
      Object.defineProperties(response, { url: { value: node }, redirected: { value: true } });
    const server = fakeServer(
      () => at(refused(401)),
      () => at(created()),
    );
    const session = await watch({ url: URL_, token: "secret", fetch: server.fetch, createPeer });
    expect(server.asked.map(({ url }) => url)).toEqual([URL_, node]);
    expect(server.asked[1]?.headers.get("authorization")).toBe("Bearer secret");
    expect(session.resource).toBe("https://b.example/whep/cam1/1");
  });

  it("throws the problem of a refusal and leaves nothing open", async () => {
    const server = fakeServer(() => refused(403));
    await expect(watch({ url: URL_, fetch: server.fetch, createPeer })).rejects.toMatchObject({
      kind: "forbidden",
      message: "refused with 403",
    });
    expect(peer.closed).toBe(true);
  });

  it("answers an offer of the server's, on a fresh connection", async () => {
    const server = fakeServer(
      () => countered(),
      () => new Response(null, { status: 204 }),
    );
    const session = await watch({ url: URL_, token: "secret", fetch: server.fetch, createPeer });
    expect(peer.remoteDescription).toEqual({ type: "offer", sdp: "v=0 the counter-offer" });
    const patch = server.asked.at(-1);
    expect(patch).toMatchObject({ method: "PATCH", url: session.resource, body: peer.localDescription?.sdp });
    expect(patch?.body).toContain("a=fmtp:111 stereo=1");
    expect(patch?.headers.get("content-type")).toBe("application/sdp");
    expect(patch?.headers.get("authorization")).toBe("Bearer secret");
    expect(session.pc).toBe(peer);
  });

  it("says that it cannot decode the stream when the server does not take its answer either", async () => {
    const server = fakeServer(
      () => countered(),
      () => refused(422),
    );
    await expect(watch({ url: URL_, fetch: server.fetch, createPeer })).rejects.toMatchObject({
      kind: "undecodable",
      message: "refused with 422",
      isTransient: true,
    });
    expect(peer.closed).toBe(true);
    expect(server.asked.at(-1)?.method).toBe("DELETE");
  });

  it("refuses an answer whose session could not be ended", async () => {
    const server = fakeServer(() => new Response("v=0", { status: 201 }));
    await expect(watch({ url: URL_, fetch: server.fetch, createPeer })).rejects.toMatchObject({ kind: "protocol" });
  });

  it("ends a session whose answer the browser does not take", async () => {
    const server = fakeServer(() => created());
    const picky = (): RTCPeerConnection => {
      const made = createPeer();
      peer.setRemoteDescription = () => Promise.reject(new Error("bad answer"));
      return made;
    };
    await expect(watch({ url: URL_, fetch: server.fetch, createPeer: picky })).rejects.toThrow("bad answer");
    expect(server.asked.at(-1)?.method).toBe("DELETE");
  });

  it("notices that the server closed DTLS, although the connection still says connected", async () => {
    const onLost = vi.fn();
    const server = fakeServer(() => created());
    const session = await watch({ url: URL_, fetch: server.fetch, createPeer, onLost });
    peer.become("connected");
    peer.transportBecomes("closed");
    expect(onLost).toHaveBeenCalledExactlyOnceWith("closed-by-server");
    expect(peer.closed).toBe(true);
    session.stop();
    expect(
      server.asked.map(({ method }) => method),
      "there is nothing left to end",
    ).toEqual(["POST"]);
  });

  it("gives a short interruption time, and a long one up", async () => {
    const onLost = vi.fn();
    await watch({ url: URL_, fetch: fakeServer(() => created()).fetch, createPeer, onLost });
    peer.become("connected");
    peer.become("disconnected");
    vi.advanceTimersByTime(1_000);
    peer.become("connected");
    vi.advanceTimersByTime(10_000);
    expect(onLost).not.toHaveBeenCalled();
    peer.become("disconnected");
    vi.advanceTimersByTime(3_000);
    expect(onLost).toHaveBeenCalledExactlyOnceWith("network");
  });

  it("restarts ICE when it is interrupted, and gives a session up that the server does not know any more", async () => {
    const onLost = vi.fn();
    const server = fakeServer(
      () => created(),
      () => new Response("a=ice-ufrag:new\r\na=ice-pwd:newpwd\r\n", { status: 200 }),
      () => refused(404),
    );
    const session = await watch({ url: URL_, token: "secret", fetch: server.fetch, createPeer, onLost });
    Object.assign(peer, { signalingState: "stable" });
    peer.become("connected");
    peer.become("disconnected");
    await vi.advanceTimersByTimeAsync(0);
    expect(server.asked.at(-1)).toMatchObject({ method: "PATCH", url: session.resource });
    expect(peer.localDescription?.sdp, "tuned like the first offer").toContain("stereo=1");
    peer.become("connected");
    await vi.advanceTimersByTimeAsync(10_000);
    expect(onLost).not.toHaveBeenCalled();
    peer.become("disconnected");
    await vi.advanceTimersByTimeAsync(0);
    expect(onLost).toHaveBeenCalledExactlyOnceWith("network");
  });

  const LINK = '<turn:turn.example.net?transport=tcp>; rel="ice-server"; username="1"; credential="2"';
  const FRAGMENT = "a=ice-ufrag:new\r\na=ice-pwd:newpwd\r\n";
  const relayed = (): ReturnType<typeof fakeServer> =>
    fakeServer(
      () => created("1", { Link: LINK }),
      () => new Response(FRAGMENT, { status: 200 }),
    );
  const patches = (server: ReturnType<typeof fakeServer>): number =>
    server.asked.filter(({ method }) => method === "PATCH").length;

  it("asks the server's relays only when the server itself is out of reach", async () => {
    for (const reachable of [true, false]) {
      const server = relayed();
      const session = await watch({ url: URL_, fetch: server.fetch, createPeer });
      Object.assign(peer, { signalingState: "stable" });
      expect(peer.configuration.iceServers).toEqual([
        { urls: "turn:turn.example.net?transport=tcp", username: "1", credential: "2" },
      ]);
      if (reachable) peer.become("connected");
      await vi.advanceTimersByTimeAsync(1_000);
      expect(patches(server)).toBe(reachable ? 0 : 1);
      session.stop();
    }
  });

  it("asks them at once where nothing else may be used, and never where the caller has chosen servers", async () => {
    for (const [configuration, asked] of [
      [{ iceTransportPolicy: "relay" }, 1],
      [{ iceServers: [] }, 0],
    ] as [RTCConfiguration, number][]) {
      const server = relayed();
      const stable = (): RTCPeerConnection => Object.assign(createPeer(), { signalingState: "stable" });
      const session = await watch({ url: URL_, fetch: server.fetch, createPeer: stable, configuration });
      await vi.advanceTimersByTimeAsync(asked === 1 ? 0 : 5_000);
      expect(patches(server), JSON.stringify(configuration)).toBe(asked);
      session.stop();
    }
  });

  it("does not wait for ever for a media path that is blocked", async () => {
    const onLost = vi.fn();
    await watch({ url: URL_, fetch: fakeServer(() => created()).fetch, createPeer, onLost });
    vi.advanceTimersByTime(8_000);
    expect(onLost).toHaveBeenCalledExactlyOnceWith("unreachable");
  });
});
