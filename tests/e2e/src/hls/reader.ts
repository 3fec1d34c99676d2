// A reader of one LL-HLS rendition that believes nothing: it asks as players do, and for everything twice.

import { changes, faults, merge, read, type Playlist, type Segment } from "./playlist.ts";

/** An answer is late when what it waited for had been there for so long. */
const LATE_MS = 250;

export interface Findings {
  faults: string[];
  blockedMs: number[];
  parts: number;
  segments: number;
  deltas: number;
  playlist: Playlist;
}

export class StrictReader {
  readonly faults: string[] = [];
  readonly blockedMs: number[] = [];
  #parts = 0;
  #segments = 0;
  #deltas = 0;
  #bytes = new Map<string, Buffer>();

  constructor(
    readonly url: string,
    readonly headers: Record<string, string> = {},
  ) {}

  /** Reads for so long. */
  async run(forMs: number): Promise<Findings> {
    const until = performance.now() + forMs;
    let playlist = await this.#playlist("");
    for (let round = 0; performance.now() < until && !playlist.ended; round += 1) {
      const after = await this.#next(playlist, round % 5 === 4);
      await this.#completed(playlist, after);
      playlist = after;
    }
    const { faults, blockedMs } = this;
    return { faults, blockedMs, parts: this.#parts, segments: this.#segments, deltas: this.#deltas, playlist };
  }

  /** The playlist as it is when the next part is there; the part comes by its hint at the same moment. */
  async #next(before: Playlist, delta: boolean): Promise<Playlist> {
    const last = before.segments.at(-1);
    if (last === undefined) throw new Error(`an empty playlist: ${before.text}`);
    const [msn, part] = last.uri === undefined ? [last.number, last.parts.length] : [last.number + 1, 0];
    const query = `_HLS_msn=${msn}&_HLS_part=${part}`;
    const began = performance.now();
    const { hint } = before;
    const hinted = hint === undefined ? undefined : this.#media(hint).then(() => performance.now() - began);
    const after = await this.#playlist(query);
    const tookMs = performance.now() - began;
    this.blockedMs.push(tookMs);
    const hintMs = await hinted;
    if (hintMs !== undefined && Math.abs(hintMs - tookMs) > LATE_MS) {
      this.faults.push(`${query}: the playlist after ${tookMs} ms, its part after ${hintMs} ms`);
    }
    const uris = after.segments.flatMap((segment) => segment.parts.map(({ uri }) => uri));
    if (hint !== undefined && !after.ended && !uris.includes(hint)) this.faults.push(`${hint} was hinted and is not listed`);
    const has = after.segments.some((of) => of.number > msn || (of.number === msn && of.parts.length > part) || after.ended);
    if (!has) this.faults.push(`${query} was answered without what it asks for`);
    this.faults.push(...changes(before, after));
    if (after.mediaSequence < before.mediaSequence) this.faults.push("numbers went back");
    this.#parts += 1;
    if (delta) await this.#delta(before, query);
    return after;
  }

  /** A delta update and what was there before are the whole. */
  async #delta(before: Playlist, query: string): Promise<void> {
    // Both may be of a later moment than the first answer: until two follow each other without a change in between.
    for (let attempt = 0; attempt < 5; attempt += 1) {
      const whole = await this.#playlist(query);
      const delta = read(await this.#text(`${query}&_HLS_skip=YES`));
      const again = await this.#playlist(query);
      if (whole.text !== again.text) continue;
      const comparable = ({ number, uri, seconds, parts, discontinuity, map, programTimeMs }: Segment): string =>
        JSON.stringify({ number, uri, seconds, parts: parts.map((part) => part.uri), discontinuity, map, programTimeMs });
      const withoutParts = (segment: Segment, of: Segment | undefined): Segment => (of?.parts.length === 0 ? { ...segment, parts: [] } : segment);
      const merged = merge(before, delta).map((segment, at) => comparable(withoutParts(segment, whole.segments[at])));
      const expected = whole.segments.map(comparable);
      if (JSON.stringify(merged) !== JSON.stringify(expected)) {
        this.faults.push(`a delta update makes\n${merged.join("\n")}\nof\n${expected.join("\n")}`);
      }
      if (delta.skipped > 0) this.#deltas += 1;
      return;
    }
  }

  /** Segments that are whole now: the same bytes as their parts. */
  async #completed(before: Playlist, after: Playlist): Promise<void> {
    const grew = new Set(before.segments.filter(({ uri }) => uri === undefined).map(({ number }) => number));
    for (const segment of after.segments.filter(({ number, uri }) => grew.has(number) && uri !== undefined)) {
      const parts = await Promise.all(segment.parts.map(({ uri }) => this.#media(uri)));
      const whole = await this.#media(segment.uri ?? "");
      if (!Buffer.concat(parts).equals(whole)) this.faults.push(`segment ${segment.number} is not its parts`);
      const map = await this.#media(segment.map);
      if (map.subarray(4, 8).toString("latin1") !== "ftyp") this.faults.push(`${segment.map} is no initialization`);
      this.#segments += 1;
    }
  }

  async #playlist(query: string): Promise<Playlist> {
    const playlist = read(await this.#text(query));
    this.faults.push(...faults(playlist));
    return playlist;
  }

  async #text(query: string): Promise<string> {
    const url = new URL(this.url);
    for (const [name, value] of new URLSearchParams(query)) url.searchParams.set(name, value);
    const response = await fetch(url, { headers: this.headers });
    const text = await response.text();
    if (response.status !== 200) throw new Error(`${url.pathname}${url.search}: ${response.status} ${text}`);
    const caching = response.headers.get("cache-control") ?? "";
    if (!/^(public|private), max-age=\d+$/.test(caching)) this.faults.push(`${query}: Cache-Control: ${caching}`);
    return text;
  }

  async #media(uri: string): Promise<Buffer> {
    const known = this.#bytes.get(uri);
    const response = await fetch(new URL(uri, this.url));
    const bytes = Buffer.from(await response.arrayBuffer());
    if (response.status !== 200) {
      this.faults.push(`${uri}: ${response.status} ${bytes.toString()}`);
      return bytes;
    }
    if (response.headers.get("cache-control") !== "public, max-age=31536000, immutable") {
      this.faults.push(`${uri}: Cache-Control: ${response.headers.get("cache-control")}`);
    }
    if (known !== undefined && !known.equals(bytes)) this.faults.push(`${uri} is another than before`);
    this.#bytes.set(uri, bytes);
    return bytes;
  }
}
