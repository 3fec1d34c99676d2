/** What WHEP's events say (WHEP extensions draft): JSON in, typed values out; unknown fields and types are ignored, as it wants. */

/** One encoding of the stream's video that a viewer can choose. */
export interface Layer {
  /** The index of its `m=` line, as text: what `setLayer` sends as `mediaId`. */
  readonly mediaId: string;
  /** The publisher's name of it (RFC 8852); `null` where layers are told apart by the ids below alone (SVC). */
  readonly rid: string | null;
  readonly spatialLayerId: number | null;
  readonly temporalLayerId: number | null;
  /** In pixels, where the server knows. */
  readonly width: number | null;
  readonly height: number | null;
  /** In bits per second: measured, and aimed at. */
  readonly bitrateBps: number | null;
  readonly targetBitrateBps: number | null;
  /** Whether the publisher sends it now. An inactive one can be chosen all the same: it comes when it comes. */
  readonly active: boolean;
}

export type WhepEvent =
  | { readonly type: "active" | "inactive" }
  | { readonly type: "layers"; readonly layers: Layer[] }
  | { readonly type: "viewercount"; readonly viewers: number }
  /** `url`: the endpoint to go to; `null`: the same one again. */
  | { readonly type: "reconnect"; readonly url: string | null };

export const EVENT_TYPES: readonly WhepEvent["type"][] = ["active", "inactive", "layers", "viewercount", "reconnect"];

/** Layers that one event may name: three encodings of some spatial and temporal layers each, for a few tracks. */
const LAYERS_MAX = 64;

type Json = Readonly<Record<string, unknown>>;

function object(value: unknown): Json | null {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : null;
}

function number(json: Json, ...keys: string[]): number | null {
  for (const key of keys) {
    const value = json[key];
    if (typeof value === "number" && Number.isFinite(value)) return value;
  }
  return null;
}

function text(json: Json, key: string): string | null {
  const value = json[key];
  return typeof value === "string" && value !== "" ? value : null;
}

function layersOf(json: Json): Layer[] {
  return Object.entries(json)
    .flatMap(([mediaId, list]) =>
      (Array.isArray(list) ? list : [])
        .map(object)
        .filter((layer) => layer !== null)
        .map((layer) => ({
          mediaId,
          rid: text(layer, "rid"),
          spatialLayerId: number(layer, "spatialLayerId"),
          temporalLayerId: number(layer, "temporalLayerId"),
          width: number(layer, "width"),
          // The draft's own list writes "heigth", its examples "height".
          height: number(layer, "height", "heigth"),
          bitrateBps: number(layer, "bitrate"),
          targetBitrateBps: number(layer, "targetBitrate"),
          active: (number(layer, "bitrate") ?? 0) > 0,
        })),
    )
    .slice(0, LAYERS_MAX);
}

/** `null` for what is not understood. */
export function parseEvent(type: string, data: string): WhepEvent | null {
  let json: Json | null;
  try {
    json = object(JSON.parse(data));
  } catch {
    return null;
  }
  if (json === null) return null;
  switch (type) {
    case "active":
    case "inactive":
      return { type };
    case "layers":
      return { type, layers: layersOf(json) };
    case "viewercount": {
      const viewers = number(json, "viewercount");
      return viewers === null ? null : { type, viewers };
    }
    case "reconnect":
      return { type, url: text(json, "url") };
    default:
      return null;
  }
}
