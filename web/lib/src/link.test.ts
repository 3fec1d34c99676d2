import { describe, expect, it } from "vitest";
import { EVENTS_RELATION, iceServersOf, LAYER_RELATION, linkOf, parseLinks } from "./link.ts";

describe("parseLinks", () => {
  it("reads several links of one field, quoted and plain, with commas inside quotes and targets", () => {
    const field =
      '<stun:stun.example.net>; rel="ice-server", <turn:turn.example.net?transport=udp>; rel=ice-server; ' +
      'username="us,er"; credential="my\\"Pass;word"; credential-type="password", </a,b>;REL="next prev";rel=other; flag';
    expect(parseLinks(field)).toEqual([
      { target: "stun:stun.example.net", parameters: { rel: "ice-server" } },
      {
        target: "turn:turn.example.net?transport=udp",
        parameters: {
          rel: "ice-server",
          username: "us,er",
          credential: 'my"Pass;word',
          "credential-type": "password",
        },
      },
      { target: "/a,b", parameters: { rel: "next prev", flag: "" } },
    ]);
  });

  it("takes the draft's own example, which leaves a semicolon out", () => {
    const links = parseLinks(
      `<https://whep.example/213786HF/sse>; rel="${EVENTS_RELATION}" events="active,inactive,layers"`,
    );
    expect(linkOf(links, EVENTS_RELATION)?.parameters["events"]).toBe("active,inactive,layers");
  });

  it("gives what it understood of nonsense, and nothing for nothing", () => {
    for (const field of [null, "", "nonsense", "; rel=x", "<unclosed"]) expect(parseLinks(field)).toEqual([]);
    expect(parseLinks('<a>; rel="unclosed')).toHaveLength(1);
    expect(parseLinks("<a>; rel=b; =;, <c>")[0]).toEqual({ target: "a", parameters: { rel: "b" } });
  });
});

describe("linkOf", () => {
  it("finds a relation among several of one link", () => {
    const links = parseLinks(`</layer>; rel="x ${LAYER_RELATION}", </later>; rel="${LAYER_RELATION}"`);
    expect(linkOf(links, LAYER_RELATION)?.target).toBe("/layer");
    expect(linkOf(links, EVENTS_RELATION)).toBeNull();
  });
});

describe("iceServersOf", () => {
  it("gives what a browser takes, and leaves out what would make it refuse all", () => {
    const links = parseLinks(
      '<stun:stun.example.net>; rel="ice-server", <turns:t.example?transport=tcp>; rel="ice-server"; username="u"; ' +
        'credential="c", <turn:no.credentials.example>; rel="ice-server", <https://x.example>; rel="ice-server", ' +
        '<turn:o.example>; rel="ice-server"; username="u"; credential="c"; credential-type="oauth", ' +
        '<stun:other.example>; rel="next"',
    );
    expect(iceServersOf(links)).toEqual([
      { urls: "stun:stun.example.net" },
      { urls: "turns:t.example?transport=tcp", username: "u", credential: "c" },
    ]);
  });
});
