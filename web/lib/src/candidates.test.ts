import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { CandidateQueue } from "./candidates.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const of = (name: string, usernameFragment = "now"): { candidate: string; usernameFragment: string } => ({
  candidate: `candidate:${name}`,
  usernameFragment,
});

describe("CandidateQueue", () => {
  it("keeps candidates until the session is known, and sends all of a moment together", () => {
    const send = vi.fn();
    const queue = new CandidateQueue(send);
    queue.begin("now");
    queue.add(of("1"));
    queue.add(of("2"));
    vi.advanceTimersByTime(60_000);
    expect(send).not.toHaveBeenCalled();
    queue.release();
    queue.add(of("3"));
    expect(send).not.toHaveBeenCalled();
    vi.advanceTimersByTime(50);
    expect(send).toHaveBeenCalledExactlyOnceWith(["candidate:1", "candidate:2", "candidate:3"], false);
    queue.add(of("4"));
    queue.add(null);
    expect(send).toHaveBeenLastCalledWith(["candidate:4"], true);
    vi.advanceTimersByTime(60_000);
    expect(send).toHaveBeenCalledTimes(2);
  });

  it("sends at once when gathering is complete already, and says so without candidates too", () => {
    const send = vi.fn();
    const queue = new CandidateQueue(send);
    queue.begin(null);
    queue.add({ candidate: "", usernameFragment: "x" });
    queue.release();
    expect(send).toHaveBeenCalledExactlyOnceWith([], true);
  });

  it("forgets what an earlier ICE session gathered, late arrivals too", () => {
    const send = vi.fn();
    const queue = new CandidateQueue(send);
    queue.begin("old");
    queue.release();
    queue.add(of("1", "old"));
    queue.begin("now");
    queue.add(of("2", "old"));
    queue.add({ candidate: "candidate:3 1 udp 1 h 1 typ host ufrag old" });
    queue.add(of("4"));
    expect(queue.take()).toEqual({ candidates: ["candidate:4"], complete: false });
    queue.add({ candidate: "candidate:5 1 udp 1 h 1 typ host ufrag now" });
    queue.release();
    vi.advanceTimersByTime(50);
    expect(send).toHaveBeenCalledExactlyOnceWith(["candidate:5 1 udp 1 h 1 typ host ufrag now"], false);
  });

  it("sends nothing any more once stopped, and holds no endless list", () => {
    const send = vi.fn();
    const queue = new CandidateQueue(send);
    queue.begin(null);
    for (let at = 0; at < 1_000; at += 1) queue.add(of(String(at)));
    expect(queue.take().candidates).toHaveLength(100);
    queue.release();
    queue.add(of("1"));
    queue.stop();
    vi.advanceTimersByTime(1_000);
    expect(send).not.toHaveBeenCalled();
  });
});
