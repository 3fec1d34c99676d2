import { createHmac } from "node:crypto";

export const SECRET = "a-secret-for-tests-of-more-than-32-bytes";

export interface Claims {
  stream: string | string[];
  can: string[];
  exp?: number;
  [claim: string]: unknown;
}

/** Seconds since the epoch, `fromNow` later. */
export function seconds(fromNow: number): number {
  return Math.floor(Date.now() / 1000) + fromNow;
}

/** An HS256 token; it lives for an hour unless the claims say otherwise. */
export function sign(claims: Claims, secret = SECRET): string {
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const body = `${part({ alg: "HS256", typ: "JWT" })}.${part({ exp: seconds(3600), ...claims })}`;
  return `${body}.${createHmac("sha256", secret).update(body).digest("base64url")}`;
}
