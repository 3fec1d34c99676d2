/** One stream on the dashboard. Its elements stay while its figures change, so that focus and open details stay too. */

import { Api, type Publisher, type Source, type StreamSummary, type Viewer } from "../api/streams";
import { asSignallingError } from "../../lib/src/problem.ts";
import { copyable, h, setText, showFigures, toast } from "../ui/dom";
import { bitrate, bytes, count, duration, milliseconds, percent, shortAgent, UNKNOWN } from "../ui/format";
import { pageLink, urlsOf } from "../ui/place";

export interface CardActions {
  confirm(title: string, text: string, yes: string): Promise<boolean>;
  refresh(): void;
}

const PROTOCOLS: Readonly<Record<string, string>> = {
  whip: "WHIP",
  rtmp: "RTMP",
  "rtmp-pull": "RTMP, fetched",
  "whep-pull": "WHEP, fetched",
};

/** What a source's state is to people. */
const SOURCE_STATES: Readonly<Record<string, string>> = {
  idle: "connected when somebody watches",
  waiting: "waits: somebody else publishes",
  connecting: "connecting",
  standby: "stands by, beside the backup on air",
  live: "live",
  retrying: "tried again soon",
};

function fetched({ source, state, problem }: Source): string {
  const words = `${source}, ${SOURCE_STATES[state] ?? state}`;
  return state === "retrying" && problem !== null ? `${words}: ${problem}` : words;
}

function who({ protocol, priority }: Publisher): string {
  const name = PROTOCOLS[protocol] ?? protocol;
  return priority === "backup" ? `${name}, the backup` : name;
}

function codecs(stream: StreamSummary): string {
  const words = stream.tracks.map(({ kind, codec, channels }) => {
    if (kind === "video") return codec;
    return channels === 2 ? `${codec} stereo` : codec;
  });
  return words.join(" + ") || UNKNOWN;
}

export class StreamCard {
  readonly element: HTMLLIElement;
  private readonly badge = h("span", { class: "badge", "data-testid": "stream-state" });
  private readonly since = h("span", { class: "muted since" });
  private readonly facts = h("dl", { class: "facts" });
  private readonly notices = h("div", { class: "stack", "data-testid": "notices" });
  private readonly kick: HTMLButtonElement;
  private readonly publish: HTMLAnchorElement;
  private readonly viewers: HTMLDetailsElement;
  private readonly viewersSummary = h("summary");
  private readonly viewersList = h("ul", { class: "viewers" });

  constructor(
    private readonly name: string,
    private readonly api: Api,
    private readonly actions: CardActions,
  ) {
    const heading = `stream-${name}`;
    this.kick = h(
      "button",
      { class: "button small danger", type: "button", "data-testid": "kick-publisher" },
      "End publisher",
    );
    this.kick.addEventListener("click", () => void this.endPublisher());
    this.publish = h(
      "a",
      { class: "button small", href: pageLink("publish", name, api.token), "data-testid": "publish" },
      "Publish",
    );
    this.viewers = h("details", { "data-testid": "viewers" }, this.viewersSummary, this.viewersList);
    this.viewers.addEventListener("toggle", () => void this.loadViewers());

    const urls = urlsOf(name, location.origin, location.hostname);
    const links = h(
      "details",
      {},
      h("summary", {}, "Links"),
      h(
        "div",
        { class: "copies" },
        copyable("Watch page", urls.watch, "stream-url-watch"),
        copyable("WHEP", urls.whep, "stream-url-whep"),
      ),
    );
    this.element = h(
      "li",
      { class: "card stream", "data-testid": "stream", "data-stream": name, "aria-labelledby": heading },
      h("div", { class: "stream-head" }, this.badge, h("h2", { id: heading }, name), this.since),
      this.facts,
      this.notices,
      h(
        "div",
        { class: "row actions" },
        h(
          "a",
          { class: "button small primary", href: pageLink("watch", name, api.token), "data-testid": "watch" },
          "Watch",
        ),
        this.publish,
        this.kick,
      ),
      links,
      this.viewers,
    );
  }

  update(stream: StreamSummary, kbps: number | null): void {
    this.element.dataset["live"] = String(stream.live);
    this.badge.classList.toggle("live", stream.live);
    const isIdle = stream.pulls.some(({ state }) => state === "idle");
    setText(this.badge, stream.live ? "Live" : isIdle ? "On demand" : "Waiting");
    setText(this.since, stream.live && stream.sinceMs !== null ? `for ${duration(Date.now() - stream.sinceMs)}` : "");
    const { publisher, standby } = stream;
    const picture = stream.tracks.find(({ width, height }) => width !== null && height !== null);
    showFigures(this.facts, [
      {
        key: "publisher",
        label: "Publisher",
        value: publisher ? who(publisher) : "nobody yet",
      },
      ...stream.pulls.map((pull) => ({ key: "source", label: "Source", value: fetched(pull) })),
      ...(standby ? [{ key: "standby", label: "Standing by", value: who(standby) }] : []),
      ...(publisher?.userAgent ? [{ key: "agent", label: "Program", value: shortAgent(publisher.userAgent) }] : []),
      ...(publisher ? [{ key: "codecs", label: "Codecs", value: codecs(stream) }] : []),
      ...(picture ? [{ key: "size", label: "Resolution", value: `${picture.width} × ${picture.height}` }] : []),
      ...(publisher ? [{ key: "bitrate", label: "Bitrate", value: bitrate(kbps) }] : []),
      { key: "viewers", label: "Viewers", value: String(stream.viewers) },
    ]);
    const notices = stream.notices.map(({ code, text }) => h("p", { class: "notice warn", "data-code": code }, text));
    if (
      notices.map((notice) => notice.textContent).join() !==
      Array.from(this.notices.children, (old) => old.textContent).join()
    ) {
      this.notices.replaceChildren(...notices);
    }
    this.notices.hidden = notices.length === 0;
    this.kick.hidden = !stream.live;
    // Publishing to a live stream takes it over: not by a button that looks harmless.
    this.publish.hidden = stream.live;
    this.viewers.hidden = stream.viewers === 0;
    setText(this.viewersSummary, count(stream.viewers, "viewer"));
    if (this.viewers.open && stream.viewers > 0) void this.loadViewers();
  }

  private async loadViewers(): Promise<void> {
    if (!this.viewers.open) return;
    try {
      const viewers = await this.api.viewers(this.name);
      const known = new Map(
        Array.from(this.viewersList.children, (row) => [(row as HTMLElement).dataset["session"], row]),
      );
      const rows = viewers.map((viewer) => {
        const row = known.get(viewer.session) ?? this.viewerRow(viewer);
        const words = row.querySelector(".who");
        if (words) setText(words, describe(viewer));
        return row;
      });
      // Replacing nothing by the same would take the focus from a button.
      const same =
        rows.length === this.viewersList.children.length &&
        rows.every((row, at) => this.viewersList.children[at] === row);
      if (!same) this.viewersList.replaceChildren(...rows);
    } catch (thrown) {
      this.viewersList.replaceChildren(h("li", {}, asSignallingError(thrown).message));
    }
  }

  private viewerRow(viewer: Viewer): HTMLLIElement {
    const button = h(
      "button",
      {
        class: "button small danger",
        type: "button",
        "data-testid": "kick-viewer",
        "aria-label": `End viewer ${viewer.from}`,
      },
      "End",
    );
    button.addEventListener("click", () => {
      button.disabled = true;
      void this.attempt("Viewer ended", () => this.api.endViewer(this.name, viewer.session));
    });
    return h("li", { "data-session": viewer.session }, h("span", { class: "who" }), button);
  }

  private async endPublisher(): Promise<void> {
    const sure = await this.actions.confirm(
      `End the publisher of ${this.name}?`,
      "Its connection is closed. Viewers stay, and get what stands by or wait for the next publisher; a program that reconnects by itself may be back at once.",
      "End publisher",
    );
    if (sure) await this.attempt("Publisher ended", () => this.api.endPublisher(this.name));
  }

  private async attempt(done: string, action: () => Promise<void>): Promise<void> {
    try {
      await action();
      toast(done);
    } catch (thrown) {
      toast(asSignallingError(thrown).message);
    }
    this.actions.refresh();
  }
}

function describe(viewer: Viewer): string {
  const parts = [
    viewer.from,
    shortAgent(viewer.userAgent),
    viewer.connected ? bytes(viewer.bytesSent) : "connecting",
    viewer.sinceMs === null ? "" : `for ${duration(Date.now() - viewer.sinceMs)}`,
    viewer.roundTripMs === null ? "" : `${milliseconds(viewer.roundTripMs)} round trip`,
    viewer.lostShare === null ? "" : `${percent(viewer.lostShare * 100)} lost`,
  ];
  return parts.filter((part) => part !== "").join(" · ");
}
