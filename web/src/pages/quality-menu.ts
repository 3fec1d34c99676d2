/** The menu of a stream's encodings: there when there are several to choose among. */

import type { Layer, Viewer } from "@sluice-media/client";
import { h } from "../ui/dom";
import { bitrate } from "../ui/format";

const AUTOMATIC = "";

export interface Quality {
  /** The layer's rid. */
  readonly value: string;
  readonly label: string;
}

/**
 * What the menu offers beside "automatic": each named encoding of the first video once, largest first; none where there is no choice. A
 * publisher's only encoding has no name: where the server makes smaller ones of it, "automatic" is it.
 */
export function qualitiesOf(layers: readonly Layer[]): Quality[] {
  const video = layers[0]?.mediaId;
  const ofVideo = layers.filter(({ mediaId }) => mediaId === video);
  const byRid = new Map<string, Layer>();
  for (const layer of ofVideo) {
    if (layer.rid !== null && !byRid.has(layer.rid)) byRid.set(layer.rid, layer);
  }
  const unnamed = ofVideo.some(({ rid }) => rid === null) ? 1 : 0;
  if (byRid.size + unnamed < 2) return [];
  return [...byRid.values()]
    .sort((one, other) => (other.height ?? 0) - (one.height ?? 0))
    .map(({ rid, height, bitrateBps, active }) => ({
      value: rid ?? "",
      label: `${height === null ? rid : `${height}p`}${active ? ` · ${bitrate((bitrateBps ?? 0) / 1_000)}` : " · paused"}`,
    }));
}

export class QualityMenu {
  private chosen = AUTOMATIC;
  private layers: readonly Layer[] = [];

  constructor(
    private readonly select: HTMLSelectElement,
    private readonly viewer: Viewer,
    private readonly onFault: (text: string) => void,
  ) {
    select.addEventListener("change", () => void this.choose());
  }

  show(layers: readonly Layer[]): void {
    this.layers = layers;
    const qualities = this.viewer.canSetLayer ? qualitiesOf(layers) : [];
    this.select.hidden = qualities.length === 0;
    const wanted = [{ value: AUTOMATIC, label: "Automatic" }, ...qualities];
    const options = Array.from(this.select.options);
    // An open menu would close if its entries were replaced; figures change all the time.
    if (options.map(({ value }) => value).join() === wanted.map(({ value }) => value).join()) {
      wanted.forEach(({ label }, index) => {
        const option = options[index];
        if (option && option.text !== label) option.text = label;
      });
    } else {
      this.select.replaceChildren(...wanted.map(({ value, label }) => h("option", { value }, label)));
      this.select.value = this.chosen;
    }
  }

  private async choose(): Promise<void> {
    const { value } = this.select;
    const mediaId = this.layers.find(({ rid }) => rid === value)?.mediaId;
    try {
      await this.viewer.setLayer(value === AUTOMATIC ? null : { rid: value, ...(mediaId !== undefined && { mediaId }) });
      this.chosen = value;
    } catch (thrown) {
      this.select.value = this.chosen;
      this.onFault(thrown instanceof Error ? thrown.message : String(thrown));
    }
  }
}
