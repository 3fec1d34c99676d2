/** Typed events: `on("layers", (layers) => …)`. A listener that throws does not take the connection with it. */

export class Emitter<Events> {
  private readonly listeners = new Map<keyof Events, Set<(event: never) => void>>();

  /** Calls `listener` at each event of that type. Returns the way to stop it. */
  on<T extends keyof Events>(type: T, listener: (event: Events[T]) => void): () => void {
    const known = this.listeners.get(type) ?? new Set();
    this.listeners.set(type, known);
    known.add(listener);
    this.listenersChanged();
    return () => {
      known.delete(listener);
      this.listenersChanged();
    };
  }

  protected emit<T extends keyof Events>(type: T, event: Events[T]): void {
    for (const listener of [...(this.listeners.get(type) ?? [])]) {
      try {
        listener(event as never);
      } catch (thrown) {
        // The page's fault is the page's to see, in its console, as with DOM events.
        queueMicrotask(() => {
          throw thrown;
        });
      }
    }
  }

  protected listens(type: keyof Events): boolean {
    return (this.listeners.get(type)?.size ?? 0) > 0;
  }

  /** Called whenever somebody begins or stops to listen. */
  protected listenersChanged(): void {}
}
