import { describe, expect, it } from "vitest";
import {
  bitrate,
  bytes,
  count,
  duration,
  framesPerSecond,
  milliseconds,
  percent,
  sentence,
  shortAgent,
  size,
  UNKNOWN,
} from "./format";

describe("figures", () => {
  it("are a dash when unknown, never 0", () => {
    expect([bitrate(null), milliseconds(null), percent(null), framesPerSecond(null), size(1, null)]).toEqual(
      Array(5).fill(UNKNOWN),
    );
  });

  it("have as many digits as help", () => {
    expect([bitrate(96.4), bitrate(2_540), bitrate(12_345)]).toEqual(["96 kb/s", "2.5 Mb/s", "12 Mb/s"]);
    expect([milliseconds(3.14), milliseconds(42.4), milliseconds(12_345)]).toEqual(["3.1 ms", "42 ms", "12.3 s"]);
    expect([percent(0), percent(0.25), percent(42.1)]).toEqual(["0 %", "0.3 %", "42 %"]);
    expect([bytes(999), bytes(1_500), bytes(123_456_789)]).toEqual(["999 B", "1.5 kB", "123 MB"]);
    expect([duration(-5), duration(59_999), duration(200_000), duration(7_500_000), duration(99 * 3_600_000)]).toEqual([
      "0 s",
      "59 s",
      "3 min 20 s",
      "2 h 5 min",
      "4 d 3 h",
    ]);
    expect([count(1, "viewer"), count(0, "viewer")]).toEqual(["1 viewer", "0 viewers"]);
  });
});

describe("shortAgent", () => {
  it.each([
    [
      "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
      "Chrome 156",
    ],
    [
      "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/156.0.0.0 Safari/537.36",
      "Chrome 156",
    ],
    [
      "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
      "Edge 140",
    ],
    [
      "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Version/18.1 Mobile/15E148 Safari/604.1",
      "Safari 18",
    ],
    ["Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox 140"],
    ["OBS-Studio/31.0.0", "OBS-Studio/31.0.0"],
    ["x".repeat(50), `${"x".repeat(39)}…`],
    ["", ""],
  ])("makes %j readable", (agent, words) => {
    expect(shortAgent(agent)).toBe(words);
  });
});

describe("sentence", () => {
  it("begins with a capital and ends once", () => {
    expect([sentence("the server is full"), sentence("Send ?token=..."), sentence("Why?")]).toEqual([
      "The server is full.",
      "Send ?token=...",
      "Why?",
    ]);
  });
});
