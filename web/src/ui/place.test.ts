import { describe, expect, it } from "vitest";
import { isStreamName, pageLink, streamNameFault, streamOf, tokenOf, urlsOf } from "./place";

describe("stream names", () => {
  it("are those that the server takes", () => {
    expect(["a", "cam1", "Room-1.x_~", "a".repeat(128)].every(isStreamName)).toBe(true);
    expect(["", "-a", "a/b", "é", "a".repeat(129), "a b"].some(isStreamName)).toBe(false);
  });

  it("that are none are explained", () => {
    expect(streamNameFault("cam1")).toBeNull();
    expect(streamNameFault("")).toMatch(/Give/);
    expect(streamNameFault(".a")).toMatch(/starts with/);
    expect(streamNameFault("a b")).toMatch(/letters, digits/);
    expect(streamNameFault("a".repeat(129))).toMatch(/128/);
  });

  it("are found in the page's path", () => {
    expect(streamOf("/watch/cam1")).toBe("cam1");
    expect(streamOf("/publish/a%7Eb/")).toBe("a~b");
    expect([streamOf("/watch/"), streamOf("/watch/a/b"), streamOf("/watch/%E0%A4%A"), streamOf("/")]).toEqual([
      null,
      null,
      null,
      null,
    ]);
  });
});

describe("tokens", () => {
  it("come from the query or, first, from the fragment", () => {
    expect(tokenOf({ search: "?token=a.b.c", hash: "" })).toBe("a.b.c");
    expect(tokenOf({ search: "?token=a", hash: "#token=b" })).toBe("b");
    expect(tokenOf({ search: "?token=", hash: "" })).toBeNull();
  });

  it("go along in the fragment, which no server sees", () => {
    expect(pageLink("watch", "cam1", "a+b")).toBe("/watch/cam1#token=a%2Bb");
    expect(pageLink("publish", "cam1", null)).toBe("/publish/cam1");
  });
});

describe("urlsOf", () => {
  it("says what to type into other programs", () => {
    const urls = urlsOf("cam1", "https://live.example:8443", "live.example");
    expect(urls).toMatchObject({
      whip: "https://live.example:8443/whip/cam1",
      whep: "https://live.example:8443/whep/cam1",
      watch: "https://live.example:8443/watch/cam1",
      rtmpServer: "rtmp://live.example/live",
      rtmpKey: "cam1",
    });
    expect(urls.ffmpegRtmp).toMatch(/ -f flv rtmp:\/\/live\.example\/live\/cam1$/);
    expect(urlsOf("cam1", "http://[::1]:8080", "[::1]", 1936).rtmpServer).toBe("rtmp://[::1]:1936/live");
  });
});
