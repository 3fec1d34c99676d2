import { describe, expect, it } from "vitest";
import { EventStreamParser } from "./event-stream.ts";

const STREAM =
  "\uFEFF: hello\n\nevent: active\ndata: {}\n\nevent:viewercount\r\ndata:{\"viewercount\":3}\r\n\r\nid: 7\nretry: 2500\n" +
  "data: one\rdata\rdata:  two\r\revent: nothing\n\ndata: unfinished";
const MESSAGES = [
  { type: "active", data: "{}" },
  { type: "viewercount", data: '{"viewercount":3}' },
  { type: "message", data: "one\n\n two" },
];

describe("EventStreamParser", () => {
  it("gives the same messages however the stream is cut", () => {
    for (let size = 1; size <= STREAM.length; size += 1) {
      const parser = new EventStreamParser();
      const found = [];
      for (let at = 0; at < STREAM.length; at += size) found.push(...parser.push(STREAM.slice(at, at + size)));
      expect(found, `in pieces of ${size}`).toEqual(MESSAGES);
      expect(parser.retryMs).toBe(2_500);
    }
  });

  it("holds no more than one message of sensible size", () => {
    expect(() => new EventStreamParser().push("x".repeat(70_000))).toThrow("64 KiB");
    const parser = new EventStreamParser();
    expect(() => {
      for (let line = 0; line < 10_000; line += 1) parser.push(`data: ${"x".repeat(100)}\n`);
    }).toThrow("64 KiB");
  });
});
