import { describe, expect, it } from "vitest";
import { lifetimeMs, renewalInMs, Tokens } from "./token.ts";

const NOW = 1_800_000_000_000;
function jwt(claims: object): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "HS256" })}.${part(claims)}.c2ln`;
}
const lasting = (seconds: number, more: object = {}): string => jwt({ exp: NOW / 1000 + seconds, ...more });

describe("a token's life", () => {
  it("is read from exp, whatever letters the payload takes in base64url", () => {
    expect(lifetimeMs(lasting(90), NOW)).toBe(90_000);
    expect(lifetimeMs(lasting(90, { sub: "ÿ?>~~~ÿþ" }), NOW)).toBe(90_000);
    for (const none of [null, "", "opaque", "a.b.c", jwt({}), jwt({ exp: "soon" }), `x.${btoa("null")}.x`]) {
      expect(lifetimeMs(none, NOW)).toBeNull();
    }
  });

  it("is renewed a minute before its end, or earlier in its life when it is short", () => {
    expect(renewalInMs(lasting(3_600), NOW)).toBe(3_540_000);
    expect(renewalInMs(lasting(30), NOW)).toBe(20_000);
    expect(renewalInMs(lasting(-5), NOW)).toBe(1_000);
    expect(renewalInMs(lasting(10 ** 9), NOW)).toBe(2 ** 31 - 1);
    expect(renewalInMs("opaque", NOW)).toBeNull();
  });
});

describe("Tokens", () => {
  it("asks its source once while the token lasts, and again when it is over", async () => {
    let now = NOW;
    let asked = 0;
    const tokens = new Tokens(
      async () => lasting(10 * ++asked),
      () => now,
    );
    const first = await tokens.get();
    expect(await tokens.get()).toBe(first);
    expect(asked).toBe(1);
    now += 9_500;
    expect(await tokens.get()).not.toBe(first);
    expect(asked).toBe(2);
    expect(tokens.renewable).toBe(true);
  });

  it("gives a plain text as it is, and cannot renew it", async () => {
    const tokens = new Tokens("secret");
    expect(await tokens.get()).toBe("secret");
    expect(tokens.renewalInMs()).toBeNull();
    expect(await new Tokens(null).get()).toBeNull();
  });
});
