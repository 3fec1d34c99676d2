/** The dashboard: what is live, what to type into other programs, and the buttons that end things. */

import { Api, BitrateMeter, type StreamSummary } from "../api/streams";
import { asSignallingError, type SignallingError } from "../../lib/src/problem.ts";
import { byId, copyable, setText, toast } from "../ui/dom";
import { expose } from "../ui/expose";
import { count } from "../ui/format";
import { pageLink, RTMP_PORT, streamNameFault, tokenOf, urlsOf } from "../ui/place";
import { StreamCard } from "./stream-card";

/** Twice a viewer's patience for "is it on yet?", and cheap: one request that reads memory. */
const POLL_MS = 2_000;
/** A token typed into the page lives as long as its tab. */
const TOKEN_KEY = "sluice-token";
const NAME_KEY = "sluice-stream-name";

const api = new Api(tokenOf(location) ?? sessionStorage.getItem(TOKEN_KEY));
const meter = new BitrateMeter();
const cards = new Map<string, StreamCard>();
const state = expose({
  page: "dashboard",
  polls: 0,
  failures: 0,
  lastError: null as string | null,
  streams: [] as readonly StreamSummary[],
});

let timer: ReturnType<typeof setTimeout> | undefined;
let polling = false;
/** Until the server has said it; `null`: there is no RTMP. */
let rtmpPort: number | null = RTMP_PORT;

async function poll(): Promise<void> {
  clearTimeout(timer);
  if (polling) return;
  polling = true;
  try {
    show(await api.streams());
    connection("ok", "Connected");
    state.lastError = null;
  } catch (thrown) {
    const error = asSignallingError(thrown);
    state.failures += 1;
    state.lastError = error.message;
    fail(error);
  } finally {
    polling = false;
    state.polls += 1;
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(() => void poll(), POLL_MS);
  }
}

function connection(kind: "ok" | "bad", text: string): void {
  const element = byId("connection");
  element.dataset["state"] = kind;
  setText(element, text);
}

function fail(error: SignallingError): void {
  const denied = error.kind === "unauthorised" || error.kind === "forbidden";
  if (denied) {
    if (byId("token-form").hidden) {
      byId("token-form").hidden = false;
      byId("token").focus();
    }
    byId("live").hidden = true;
    setText(byId("token-reason"), api.token === null ? "What is live is shown to administrators." : error.message);
    setText(byId("summary"), "");
    show([], false);
  }
  connection("bad", denied ? "Not signed in" : `No connection: ${error.message}`);
}

function show(streams: readonly StreamSummary[], known = true): void {
  const rates = meter.update(streams, performance.now());
  state.streams = streams;
  const list = byId("streams");
  const names = new Set(streams.map(({ name }) => name));
  for (const [name, card] of cards) {
    if (names.has(name)) continue;
    card.element.remove();
    cards.delete(name);
  }
  // Live ones first, then by name, as the server sends them.
  const ordered = [...streams].sort((a, b) => Number(b.live) - Number(a.live));
  ordered.forEach((stream, index) => {
    let card = cards.get(stream.name);
    if (!card) {
      card = new StreamCard(stream.name, api, { confirm, refresh: () => void poll() });
      cards.set(stream.name, card);
    }
    card.update(stream, rates.get(stream.name) ?? null);
    if (list.children[index] !== card.element) list.insertBefore(card.element, list.children[index] ?? null);
  });
  if (!known) return;
  byId("token-form").hidden = true;
  byId("live").hidden = false;
  byId("empty").hidden = streams.length > 0;
  const live = streams.filter((stream) => stream.live).length;
  const viewers = streams.reduce((sum, stream) => sum + stream.viewers, 0);
  setText(byId("summary"), streams.length === 0 ? "" : `${count(live, "stream")} live, ${count(viewers, "viewer")}`);
}

/** Asks before something is ended that cannot be taken back. */
function confirm(title: string, text: string, yes: string): Promise<boolean> {
  const dialog = byId<HTMLDialogElement>("confirm");
  setText(byId("confirm-title"), title);
  setText(byId("confirm-text"), text);
  setText(byId("confirm-yes"), yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

function showUrls(): void {
  const input = byId<HTMLInputElement>("stream");
  const name = input.value.trim();
  const fault = streamNameFault(name);
  setText(byId("stream-error"), fault ?? "");
  input.setAttribute("aria-invalid", String(fault !== null));
  for (const [id, page] of [
    ["publish-link", "publish"],
    ["watch-link", "watch"],
  ] as const) {
    const link = byId<HTMLAnchorElement>(id);
    if (fault === null) link.href = pageLink(page, name, api.token);
    else link.removeAttribute("href");
    link.setAttribute("aria-disabled", String(fault !== null));
  }
  if (fault !== null) return;
  localStorage.setItem(NAME_KEY, name);
  const urls = urlsOf(name, location.origin, location.hostname, rtmpPort ?? RTMP_PORT);
  const byRtmp = rtmpPort !== null;
  byId("rtmp-off").hidden = byRtmp;
  const key = api.token === null ? urls.rtmpKey : `${urls.rtmpKey}?token=…`;
  const copies: Readonly<Record<string, readonly [label: string, value: string, testId: string][]>> = {
    whip: [
      ["Server", urls.whip, "url-whip"],
      ...(api.token === null
        ? []
        : ([["Bearer Token", "a token with the publish right", "hint-bearer"]] as [string, string, string][])),
    ],
    rtmp: byRtmp
      ? [
          ["Server", urls.rtmpServer, "url-rtmp-server"],
          ["Stream key", key, "url-rtmp-key"],
        ]
      : [],
    ffmpeg: [
      ...(byRtmp ? ([["By RTMP", urls.ffmpegRtmp, "ffmpeg-rtmp"]] as [string, string, string][]) : []),
      ["By WHIP", urls.ffmpegWhip, "ffmpeg-whip"],
    ],
    whep: [
      ["Page", urls.watch, "url-watch"],
      ["WHEP", urls.whep, "url-whep"],
    ],
  };
  for (const panel of document.querySelectorAll<HTMLElement>("[data-copies]")) {
    const rows = copies[panel.dataset["copies"] ?? ""] ?? [];
    panel.replaceChildren(...rows.map(([label, value, testId]) => copyable(label, value, testId)));
  }
}

/** Tabs as the ARIA practices have them: arrows move and select. */
function wireTabs(): void {
  const tabs = [...document.querySelectorAll<HTMLButtonElement>("#tabs [role=tab]")];
  const select = (chosen: HTMLButtonElement): void => {
    for (const tab of tabs) {
      const selected = tab === chosen;
      tab.setAttribute("aria-selected", String(selected));
      tab.tabIndex = selected ? 0 : -1;
      byId(tab.getAttribute("aria-controls") ?? "").hidden = !selected;
    }
  };
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => select(tab));
    tab.addEventListener("keydown", ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      const next =
        key === "Home" ? tabs[0] : key === "End" ? tabs.at(-1) : step && tabs.at((index + step) % tabs.length);
      if (!next) return;
      select(next);
      next.focus();
    });
  });
}

async function askForDoors(): Promise<void> {
  try {
    ({ rtmpPort } = await api.doors());
    showUrls();
  } catch {
    // The usual port stays; that the server does not answer is shown by the poll.
  }
}

byId<HTMLInputElement>("stream").value = localStorage.getItem(NAME_KEY) ?? "cam1";
byId("stream").addEventListener("input", showUrls);
byId("start").addEventListener("submit", (event) => {
  event.preventDefault();
  if (streamNameFault(byId<HTMLInputElement>("stream").value.trim()) === null) byId("publish-link").click();
});
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const input = byId<HTMLInputElement>("token");
  api.token = input.value.trim();
  sessionStorage.setItem(TOKEN_KEY, api.token);
  input.value = "";
  toast("Trying the token");
  showUrls();
  void poll();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) void poll();
});
wireTabs();
showUrls();
void askForDoors();
void poll();
