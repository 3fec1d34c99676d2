/**
 * Candidates on their way to the server (trickle ICE, RFC 9725 section 4.3.2): kept until the session's URL and its entity tag are
 * known, then sent together, and again together whatever comes in the next moments.
 */

/** How long to wait for more before sending: gathering without servers takes less. */
const BATCH_MS = 50;
/** Candidates kept for one ICE session: some interfaces, both IP versions, both transports, some servers. */
const CANDIDATES_MAX = 100;

/** As much of `RTCIceCandidate` as counts here. */
export interface LocalCandidate {
  readonly candidate: string;
  /** Missing in old browsers: then it is of the present ICE session. */
  readonly usernameFragment?: string | null;
}

export class CandidateQueue {
  private waiting: string[] = [];
  private complete = false;
  private ufrag: string | null = null;
  private held = true;
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** `send` gets what is to be sent now; `complete`: no more will come. */
  constructor(private readonly send: (candidates: readonly string[], complete: boolean) => void) {}

  /** Begins an ICE session: earlier ones' candidates are forgotten, its own are kept until `release()`. */
  begin(ufrag: string | null): void {
    clearTimeout(this.timer);
    this.ufrag = ufrag;
    this.held = true;
    this.waiting = [];
    this.complete = false;
  }

  /** A candidate as the browser gives it; `null`: gathering is complete. */
  add(candidate: LocalCandidate | null): void {
    if (candidate === null || candidate.candidate === "") this.complete = true;
    else if (this.isOfNow(candidate) && this.waiting.length < CANDIDATES_MAX) this.waiting.push(candidate.candidate);
    if (this.held) return;
    if (this.complete) return this.flush();
    this.timer ??= setTimeout(() => this.flush(), BATCH_MS);
  }

  /** What has come so far, for a message that is sent anyway. */
  take(): { candidates: readonly string[]; complete: boolean } {
    const taken = { candidates: this.waiting, complete: this.complete };
    this.waiting = [];
    this.complete = false;
    return taken;
  }

  /** From now on candidates may be sent; at once what has come, unless more is about to. */
  release(): void {
    if (!this.held) return;
    this.held = false;
    if (this.complete) this.flush();
    else if (this.waiting.length > 0) this.timer = setTimeout(() => this.flush(), BATCH_MS);
  }

  stop(): void {
    clearTimeout(this.timer);
    this.held = true;
  }

  private flush(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    const { candidates, complete } = this.take();
    if (candidates.length > 0 || complete) this.send(candidates, complete);
  }

  private isOfNow({ candidate, usernameFragment }: LocalCandidate): boolean {
    const ufrag = usernameFragment ?? / ufrag (\S+)/.exec(candidate)?.[1];
    return this.ufrag === null || ufrag === undefined || ufrag === this.ufrag;
  }
}
