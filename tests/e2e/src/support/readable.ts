// Whether people can read and reach what a page shows: contrast by WCAG's formula, and what lies within the window.

import assert from "node:assert/strict";
import type { Locator, Page } from "playwright-core";

/** WCAG 2.2, success criterion 1.4.3. */
const CONTRAST_MIN = 4.5;
/** WCAG 2.2, success criterion 2.5.8, in CSS pixels. */
const TARGET_MIN_PX = 24;

type Colour = [number, number, number];

/** Relative luminance, of a colour in sRGB. */
function luminance(colour: Colour): number {
  const [red = 0, green = 0, blue = 0] = colour.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** How much an element's text stands out from what is painted behind it; pictures behind it are not looked at. */
export async function contrast(of: Locator): Promise<number> {
  const [ground, text] = await of.evaluate((element) => {
    const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    if (paint === null) throw new Error("no canvas");
    const layers = ["Canvas"];
    for (let at: Element | null = element; at !== null; at = at.parentElement) {
      layers.splice(1, 0, getComputedStyle(at).backgroundColor);
    }
    layers.push(getComputedStyle(element).color);
    // One over the other, as the browser itself mixes them; the last is the text.
    return layers
      .map((colour) => {
        paint.fillStyle = colour;
        paint.fillRect(0, 0, 1, 1);
        return Array.from(paint.getImageData(0, 0, 1, 1).data.slice(0, 3)) as [number, number, number];
      })
      .slice(-2) as [[number, number, number], [number, number, number]];
  });
  const [light, dark] = [luminance(ground), luminance(text)].toSorted((one, other) => other - one) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

/** Asserts that a control can be read, is large enough to be hit, and lies within the window. */
export async function usable(page: Page, control: Locator, what: string): Promise<void> {
  const ratio = await contrast(control);
  assert.ok(ratio >= CONTRAST_MIN, `${what}: contrast ${ratio.toFixed(1)}`);
  const box = await control.boundingBox();
  const window = page.viewportSize();
  assert.ok(box !== null && window !== null, `${what} is not there`);
  assert.ok(box.x >= 0 && box.x + box.width <= window.width, `${what} is cut off: ${JSON.stringify(box)}`);
  assert.ok(box.height >= TARGET_MIN_PX && box.width >= TARGET_MIN_PX, `${what} is too small: ${JSON.stringify(box)}`);
  const isWide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  assert.ok(!isWide, `${what}: the page must be scrolled sideways`);
}
