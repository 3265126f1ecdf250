/** The colours of statuses for canvases, which cannot read variables of styles. */
import { Store } from "../data/store.ts";
import { useStore } from "../data/useStore.ts";

const NAMES = [
  "pending",
  "queued",
  "running",
  "waiting",
  "retrying",
  "success",
  "error",
  "skipped",
  "cancelled",
] as const;

export type Palette = Record<(typeof NAMES)[number] | "tick", string>;

/** Read the colours of the theme: an element resolves `light-dark()`, a variable does not. */
function read(): Palette {
  const probe = document.createElement("i");
  probe.style.forcedColorAdjust = "none";
  document.body.append(probe);
  const style = getComputedStyle(probe);
  const colorOf = (name: string): string => {
    probe.style.color = `var(--${name})`;
    return style.color;
  };
  const found = Object.fromEntries(NAMES.map((name) => [name, colorOf(name)]));
  found.tick = colorOf("line-strong");
  probe.remove();
  return found as Palette;
}

const palette = new Store(read());
const reread = () => palette.set(read());
new MutationObserver(reread).observe(document.documentElement, {
  attributeFilter: ["data-theme"],
});
for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"])
  matchMedia(query).addEventListener("change", reread);

/** Return the colours of the theme, also after it has changed. */
export const usePalette = (): Palette => useStore(palette);

/** Return the context of an empty canvas of this size in CSS pixels. */
export function prepared(
  canvas: HTMLCanvasElement | null,
  width: number,
  height: number,
): CanvasRenderingContext2D | null {
  const context = canvas?.getContext("2d");
  if (!canvas || !context) return null;
  const scale = devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== wide) canvas.width = wide;
  if (canvas.height !== high) canvas.height = high;
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}
