import { describe, expect, it } from "vitest";
import { iceServersOf } from "./link";

describe("iceServersOf", () => {
  it("reads the servers of RFC 9725's example, joined as browsers join headers", () => {
    const field = [
      '<stun:stun.example.net>; rel="ice-server"',
      '<turn:turn.example.net?transport=udp>; rel="ice-server"; username="user"; credential="myPassword"; credential-type="password"',
      '<turns:turn.example.net?transport=tcp>; rel=ice-server;\n username="1700003600:a"; credential="b+/\\"c\\\\=="',
    ].join(", ");
    expect(iceServersOf(field)).toEqual([
      { urls: "stun:stun.example.net" },
      { urls: "turn:turn.example.net?transport=udp", username: "user", credential: "myPassword" },
      { urls: "turns:turn.example.net?transport=tcp", username: "1700003600:a", credential: 'b+/"c\\==' },
    ]);
  });

  it("passes over links of other kinds and servers that a browser would not take", () => {
    expect(iceServersOf(null)).toEqual([]);
    for (const field of [
      '</whep/cam1/1/layer>; rel="urn:ietf:params:whep:ext:core:layer"',
      '<https://example.net>; rel="ice-server"',
      '<turn:turn.example.net>; rel="ice-server"',
      '<turn:turn.example.net>; rel="ice-server"; username="a"; credential="b"; credential-type="oauth"',
      "stun:stun.example.net",
    ]) {
      expect(iceServersOf(field), field).toEqual([]);
    }
  });
});
