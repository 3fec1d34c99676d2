import { describe, expect, it } from "vitest";
import { fragmentOf, parseFragment, restartedAnswer, ufragOf } from "./fragment.ts";

const OFFER = [
  "v=0",
  "o=- 5228595038118931041 2 IN IP4 127.0.0.1",
  "s=-",
  "t=0 0",
  "a=group:BUNDLE 1 0",
  "a=extmap-allow-mixed",
  "m=audio 9 UDP/TLS/RTP/SAVPF 111",
  "a=mid:0",
  "a=ice-ufrag:other",
  "a=ice-pwd:other-password-of-22-letters",
  "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
  "a=mid:1",
  "a=ice-ufrag:EsAw",
  "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1",
  "a=ice-options:trickle",
  "a=candidate:9 1 udp 1 192.0.2.9 9 typ host",
  "",
].join("\r\n");

describe("fragmentOf", () => {
  it("has the tagged section's line, mid and credentials, and the candidates it is given", () => {
    const candidates = ["candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host", "a=candidate:2 1 tcp 1 192.0.2.1 9 typ host"];
    expect(fragmentOf(OFFER, candidates, true).split("\r\n")).toEqual([
      "a=ice-options:trickle",
      "a=group:BUNDLE 1 0",
      "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
      "a=mid:1",
      "a=ice-ufrag:EsAw",
      "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1",
      "a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host",
      "a=candidate:2 1 tcp 1 192.0.2.1 9 typ host",
      "a=end-of-candidates",
      "",
    ]);
    expect(fragmentOf(OFFER, [], false)).not.toContain("candidate");
  });

  it("takes credentials of the session, and the first section that lives, where there is no bundle group", () => {
    const sdp = "v=0\na=ice-ufrag:abcd\na=ice-pwd:efgh\nm=audio 0 RTP/SAVPF 0\na=mid:a\nm=video 9 RTP/SAVPF 96\na=mid:v\n";
    expect(fragmentOf(sdp, [], false)).toBe(
      "m=video 9 RTP/SAVPF 96\r\na=mid:v\r\na=ice-ufrag:abcd\r\na=ice-pwd:efgh\r\n",
    );
    expect(ufragOf(sdp)).toBe("abcd");
    expect(ufragOf("v=0")).toBeNull();
  });
});

const ANSWER = [
  "v=0",
  "o=- 1657793490019 1 IN IP4 127.0.0.1",
  "a=group:BUNDLE 0 1",
  "a=ice-lite",
  "m=audio 9 UDP/TLS/RTP/SAVPF 111",
  "a=ice-ufrag:old",
  "a=ice-pwd:old",
  "a=candidate:1 1 UDP 2130706431 198.51.100.1 1 typ host",
  "a=end-of-candidates",
  "a=setup:passive",
  "a=mid:0",
  "a=sendonly",
  "m=video 9 UDP/TLS/RTP/SAVPF 96",
  "a=ice-ufrag:old",
  "a=ice-pwd:old",
  "a=mid:1",
  "",
].join("\r\n");

describe("a restart", () => {
  const ice = parseFragment(
    "a=ice-lite\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:289b\r\n" +
      "a=ice-pwd:0b66\r\na=candidate:1 1 udp 2130706431 198.51.100.2 2 typ host\r\na=end-of-candidates\r\n",
  );

  it("replaces credentials and candidates everywhere, and nothing else", () => {
    expect(ice).toMatchObject({ ufrag: "289b", pwd: "0b66" });
    expect(restartedAnswer(ANSWER, ice!).split("\r\n")).toEqual([
      "v=0",
      "o=- 1657793490019 2 IN IP4 127.0.0.1",
      "a=group:BUNDLE 0 1",
      "a=ice-lite",
      "m=audio 9 UDP/TLS/RTP/SAVPF 111",
      "a=ice-ufrag:289b",
      "a=ice-pwd:0b66",
      "a=setup:passive",
      "a=mid:0",
      "a=sendonly",
      "a=candidate:1 1 udp 2130706431 198.51.100.2 2 typ host",
      "a=end-of-candidates",
      "m=video 9 UDP/TLS/RTP/SAVPF 96",
      "a=ice-ufrag:289b",
      "a=ice-pwd:0b66",
      "a=mid:1",
      "",
    ]);
  });

  it("makes an answer of the offer that a session began with", () => {
    const offer = ANSWER.replace("a=setup:passive", "a=setup:actpass");
    expect(restartedAnswer(offer, ice!)).toBe(restartedAnswer(ANSWER, ice!));
  });

  it("is not made of a fragment without credentials", () => {
    for (const text of ["", "nonsense", "a=ice-ufrag:x", "a=ice-pwd:y\r\n"]) expect(parseFragment(text)).toBeNull();
  });
});
