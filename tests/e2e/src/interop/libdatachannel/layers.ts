// The RTP of simulcast layers, as libdatachannel's packetizer and sender reports make it when OBS swaps SSRC, rid and numbers between
// two pictures. The library's bindings for Node lack these fields; what they would change is written here, and sent by the library.

const PAYLOAD_TYPE = 96;
const CLOCK_HZ = 90_000;
/** OBS's MAX_VIDEO_FRAGMENT_SIZE. */
const FRAGMENT_BYTES_MAX = 1_200;
const MID = "1";
const MID_EXTENSION = 1;
const RID_EXTENSION = 2;
const REPORT_EVERY_MS = 1_000;
/** From 1900 to 1970. */
const NTP_EPOCH_S = 2_208_988_800;

export class LayerSender {
  // All layers' numbers and timestamps begin at 0.
  #sequence = 0;
  #timestamp = 0;

  constructor(
    readonly ssrc: number,
    readonly rid: string,
    readonly reports: Reports,
    readonly send: (packet: Buffer) => void,
  ) {}

  /** One picture, `elapsedS` after the layer's last one. */
  picture(accessUnit: Buffer, elapsedS: number): void {
    this.#timestamp = (this.#timestamp + Math.trunc(elapsedS * CLOCK_HZ)) >>> 0;
    const payloads = nalUnits(accessUnit).flatMap(fragments);
    const packets = payloads.map((payload, i) => this.#packet(payload, i === payloads.length - 1));
    const report = this.reports.due(this.ssrc, this.#timestamp, payloads);
    if (report !== undefined) this.send(report);
    for (const packet of packets) this.send(packet);
  }

  #packet(payload: Buffer, marker: boolean): Buffer {
    const header = Buffer.alloc(20);
    header[0] = 0x90;
    header[1] = PAYLOAD_TYPE | (marker ? 0x80 : 0);
    header.writeUInt16BE(this.#sequence, 2);
    header.writeUInt32BE(this.#timestamp, 4);
    header.writeUInt32BE(this.ssrc, 8);
    header.writeUInt16BE(0xbede, 12);
    header.writeUInt16BE(1, 14);
    // Both values are one character: their length is written as 0 (RFC 8285 section 4.2).
    header[16] = MID_EXTENSION << 4;
    header.write(MID, 17);
    header[18] = RID_EXTENSION << 4;
    header.write(this.rid, 19);
    this.#sequence = (this.#sequence + 1) & 0xffff;
    return Buffer.concat([header, payload]);
  }
}

/** One reporter for all layers: a report a second, of the layer that is sent then, with what all of them have sent. */
export class Reports {
  #lastMs = -Infinity;
  #packets = 0;
  #bytes = 0;

  constructor(readonly cname: string) {}

  due(ssrc: number, timestamp: number, payloads: Buffer[]): Buffer | undefined {
    this.#packets += payloads.length;
    this.#bytes += payloads.reduce((sum, payload) => sum + payload.length, 0);
    if (performance.now() < this.#lastMs + REPORT_EVERY_MS) return undefined;
    this.#lastMs = performance.now();
    const nowS = Date.now() / 1000 + NTP_EPOCH_S;
    const report = Buffer.alloc(28);
    report.writeUInt16BE(0x80c8, 0);
    report.writeUInt16BE(6, 2);
    report.writeUInt32BE(ssrc, 4);
    report.writeUInt32BE(Math.floor(nowS), 8);
    report.writeUInt32BE(Math.floor((nowS % 1) * 2 ** 32), 12);
    report.writeUInt32BE(timestamp, 16);
    report.writeUInt32BE(this.#packets, 20);
    report.writeUInt32BE(this.#bytes >>> 0, 24);
    // The items end with a zero, then zeroes up to a whole word (RFC 3550 section 6.5).
    const description = Buffer.alloc(8 + Math.ceil((2 + this.cname.length + 1) / 4) * 4);
    description.writeUInt16BE(0x81ca, 0);
    description.writeUInt16BE(description.length / 4 - 1, 2);
    description.writeUInt32BE(ssrc, 4);
    description[8] = 1;
    description[9] = this.cname.length;
    description.write(this.cname, 10);
    return Buffer.concat([report, description]);
  }
}

/** What stands between start codes of three or four bytes. */
function nalUnits(accessUnit: Buffer): Buffer[] {
  const units: Buffer[] = [];
  const code = Buffer.from([0, 0, 1]);
  let at = accessUnit.indexOf(code);
  while (at >= 0) {
    const begin = at + code.length;
    const next = accessUnit.indexOf(code, begin);
    const end = next < 0 ? accessUnit.length : accessUnit[next - 1] === 0 ? next - 1 : next;
    units.push(accessUnit.subarray(begin, end));
    at = next;
  }
  return units;
}

/** The unit itself, or FU-A fragments of it (RFC 6184 section 5.8). */
function fragments(unit: Buffer): Buffer[] {
  if (unit.length <= FRAGMENT_BYTES_MAX) return [unit];
  const header = unit[0] ?? 0;
  const room = FRAGMENT_BYTES_MAX - 2;
  const out: Buffer[] = [];
  for (let at = 1; at < unit.length; at += room) {
    const start = at === 1 ? 0x80 : 0;
    const end = at + room >= unit.length ? 0x40 : 0;
    out.push(Buffer.concat([Buffer.from([(header & 0x60) | 28, start | end | (header & 0x1f)]), unit.subarray(at, at + room)]));
  }
  return out;
}
