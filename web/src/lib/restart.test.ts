import { describe, expect, it } from "vitest";
import { fragmentOf, restartIce, withIceOf } from "./restart";
import { FakePeer, fakeServer, refused } from "./testing";

const lines = (...text: string[]): string => `${text.join("\r\n")}\r\n`;
const RESOURCE = "https://sluice.example/whep/cam1/1";
const ENDPOINT = { url: "https://sluice.example/whep/cam1", protocol: "whep", token: "secret" } as const;

const OFFER = lines(
  "v=0",
  "s=-",
  "a=group:BUNDLE 0 1",
  "m=audio 9 UDP/TLS/RTP/SAVPF 111",
  "a=ice-ufrag:EsAw",
  "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1",
  "a=ice-options:trickle",
  "a=mid:0",
  "m=video 9 UDP/TLS/RTP/SAVPF 96",
  "a=ice-ufrag:EsAw",
  "a=mid:1",
);
const ANSWER = lines(
  "v=0",
  "m=audio 9 UDP/TLS/RTP/SAVPF 111",
  "a=ice-ufrag:old",
  "a=ice-pwd:oldpwd",
  "a=candidate:1 1 udp 1 192.0.2.1 8189 typ host",
  "a=end-of-candidates",
  "a=fmtp:111 stereo=1",
  "m=video 9 UDP/TLS/RTP/SAVPF 96",
  "a=ice-ufrag:old",
  "a=ice-pwd:oldpwd",
);
const FRAGMENT = lines(
  "a=ice-lite",
  "m=audio 9 UDP/TLS/RTP/SAVPF 111",
  "a=mid:0",
  "a=ice-ufrag:new",
  "a=ice-pwd:newpwd",
  "a=candidate:1 1 udp 1 198.51.100.1 8189 typ host",
  "a=end-of-candidates",
);

class RestartingPeer extends FakePeer {
  signalingState = "stable";
  override remoteDescription: RTCSessionDescriptionInit | null = { type: "answer", sdp: ANSWER };
  readonly set: RTCSessionDescriptionInit[] = [];
  override async createOffer(): Promise<RTCSessionDescriptionInit> {
    return { type: "offer", sdp: OFFER };
  }
  override async setLocalDescription(description: RTCSessionDescriptionInit): Promise<void> {
    this.signalingState = description.type === "offer" ? "have-local-offer" : "stable";
    this.set.push(description);
  }
  override async setRemoteDescription(description: RTCSessionDescriptionInit): Promise<void> {
    this.signalingState = "stable";
    this.set.push(description);
  }
}

const restart = (peer: RestartingPeer, fetch_: typeof fetch): Promise<void> =>
  restartIce(peer as unknown as RTCPeerConnection, { ...ENDPOINT, fetch: fetch_ }, RESOURCE);

describe("restartIce", () => {
  it("sends the ICE of the first section", () => {
    expect(fragmentOf(OFFER)).toBe(
      lines(
        "a=group:BUNDLE 0 1",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=ice-ufrag:EsAw",
        "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1",
        "a=ice-options:trickle",
        "a=mid:0",
      ),
    );
  });

  it("changes the ICE of the answer and nothing else", () => {
    expect(withIceOf(ANSWER, FRAGMENT)).toBe(
      lines(
        "v=0",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=ice-ufrag:new",
        "a=ice-pwd:newpwd",
        "a=candidate:1 1 udp 1 198.51.100.1 8189 typ host",
        "a=end-of-candidates",
        "a=fmtp:111 stereo=1",
        "m=video 9 UDP/TLS/RTP/SAVPF 96",
        "a=ice-ufrag:new",
        "a=ice-pwd:newpwd",
      ),
    );
  });

  it("patches the session with If-Match: * and the token, and applies the new answer", async () => {
    const peer = new RestartingPeer();
    const server = fakeServer(() => new Response(FRAGMENT, { status: 200 }));
    await restart(peer, server.fetch);
    expect(server.asked).toHaveLength(1);
    expect(server.asked[0]).toMatchObject({ method: "PATCH", url: RESOURCE, body: fragmentOf(OFFER) });
    expect(server.asked[0]?.headers.get("if-match")).toBe("*");
    expect(server.asked[0]?.headers.get("content-type")).toBe("application/trickle-ice-sdpfrag");
    expect(server.asked[0]?.headers.get("authorization")).toBe("Bearer secret");
    expect(peer.set.map(({ type }) => type)).toEqual(["offer", "answer"]);
    expect(peer.set[1]?.sdp).toContain("a=ice-ufrag:new");
  });

  it("takes the offer back when the server refuses, so that the session is what it was", async () => {
    const peer = new RestartingPeer();
    await expect(restart(peer, fakeServer(() => refused(404)).fetch)).rejects.toMatchObject({ status: 404 });
    expect(peer.set.at(-1)?.type).toBe("rollback");
    expect(peer.signalingState).toBe("stable");
    const silent = fakeServer(() => new Response("a=ice-lite\r\n", { status: 200 }));
    await expect(restart(peer, silent.fetch)).rejects.toMatchObject({ kind: "protocol" });
    expect(peer.signalingState).toBe("stable");
  });

  it("leaves a session alone that is just being negotiated", async () => {
    const peer = new RestartingPeer();
    peer.signalingState = "have-local-offer";
    const server = fakeServer(() => new Response(FRAGMENT, { status: 200 }));
    await restart(peer, server.fetch);
    expect(server.asked).toHaveLength(0);
  });
});
