import { describe, expect, it } from "vitest";
import { asSignallingError, errorOf, retryAfterMs } from "./problem.ts";

function problem(status: number, body: object, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: { "Content-Type": "application/problem+json", ...headers },
  });
}

describe("errorOf", () => {
  it("carries the problem document and the server's wish", async () => {
    const body = { type: "/problems/not-live", title: "Not live", status: 409, detail: "nobody publishes cam1" };
    const error = await errorOf(problem(409, body, { "Retry-After": "3" }), "whep");
    expect(error).toMatchObject({
      kind: "not-live",
      message: "nobody publishes cam1",
      retryAfterMs: 3_000,
      status: 409,
    });
    expect(error.problem).toEqual(body);
    expect(error.isTransient).toBe(true);
  });

  it.each([
    [401, "whep", "unauthorised", false],
    [403, "whip", "forbidden", false],
    [406, "whep", "undecodable", true],
    [406, "whip", "refused", false],
    [409, "whip", "conflict", false],
    [429, "whep", "unavailable", true],
    [503, "whip", "unavailable", true],
    [204, "whip", "protocol", false],
  ] as const)("knows what %i from %s means", async (status, protocol, kind, transient) => {
    const error = await errorOf(new Response(null, { status }), protocol);
    expect(error.kind).toBe(kind);
    expect(error.isTransient).toBe(transient);
  });

  it("shows nothing of a body that is no problem document", async () => {
    const html = new Response("<h1>Bad gateway of some proxy</h1>", {
      status: 502,
      headers: { "Content-Type": "text/html" },
    });
    const error = await errorOf(html, "whep");
    expect(error.problem).toBeNull();
    expect(error.message).toBe("the server answered 502");
  });

  it("survives a problem document that is broken or of other types", async () => {
    for (const body of ["{", "[]", "null", '{"title":7,"detail":{}}']) {
      const response = new Response(body, { status: 400, headers: { "Content-Type": "application/problem+json" } });
      expect((await errorOf(response, "whip")).message).toBe("the server answered 400");
    }
  });
});

describe("retryAfterMs", () => {
  it("reads seconds and dates, and nothing else", () => {
    const now = Date.parse("2026-01-01T00:00:00Z");
    expect(retryAfterMs("5", now)).toBe(5_000);
    expect(retryAfterMs("Thu, 01 Jan 2026 00:00:07 GMT", now)).toBe(7_000);
    expect(retryAfterMs("Wed, 31 Dec 2025 00:00:00 GMT", now)).toBe(0);
    expect(retryAfterMs("soon", now)).toBeNull();
    expect(retryAfterMs(null, now)).toBeNull();
  });
});

describe("asSignallingError", () => {
  it("takes what fetch throws for a network that does not answer", () => {
    expect(asSignallingError(new TypeError("Failed to fetch"))).toMatchObject({ kind: "network", isTransient: true });
    expect(asSignallingError(new Error("SDP"))).toMatchObject({ kind: "protocol", isTransient: false });
  });
});
