/** What the browser knows of its network and of the page's life; where there is no browser, nothing ever happens. */

export interface NetworkObserver {
  /** Another network may be in use: an old path may be dead without anybody having noticed. */
  onChanged(): void;
  /** Timers may have slept: what should have been tried is tried now. */
  onAwake(): void;
  /** The page was hidden, or is seen again. */
  onVisibility?(visible: boolean): void;
  /** The page goes away, perhaps into the browser's page cache; and is back from there. */
  onPageHide?(): void;
  onPageShow?(): void;
}

/** As much of `NetworkInformation` as counts: Chromium has it, and tells the kind of network on phones only. */
interface Connection extends EventTarget {
  readonly type?: string;
}

/** Returns the way to stop observing. */
export function observeNetwork(observer: NetworkObserver): () => void {
  const controller = new AbortController();
  const { signal } = controller;
  const listen = (target: EventTarget | undefined, type: string, listener: (event: Event) => void): void =>
    (target as Partial<EventTarget> | undefined)?.addEventListener?.(type, listener, { signal });
  const page = globalThis as unknown as EventTarget;
  const { document } = globalThis as { document?: Document };

  listen(page, "online", () => {
    observer.onChanged();
    observer.onAwake();
  });
  listen(document, "visibilitychange", () => {
    observer.onVisibility?.(!document?.hidden);
    if (!document?.hidden) observer.onAwake();
  });
  listen(page, "pagehide", () => observer.onPageHide?.());
  listen(page, "pageshow", (event) => {
    if ((event as PageTransitionEvent).persisted) observer.onPageShow?.();
  });

  const connection = (globalThis.navigator as { connection?: Connection } | undefined)?.connection;
  // It "changes" with every estimate of speed too; only another kind of network means another path.
  let type = connection?.type;
  listen(connection, "change", () => {
    if (connection?.type === type) return;
    type = connection?.type;
    observer.onChanged();
  });
  return () => controller.abort();
}
