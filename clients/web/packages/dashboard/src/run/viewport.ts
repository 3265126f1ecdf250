/** The arithmetic of a surface that is panned and zoomed. Pure. */

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** Where the origin of the surface is in its frame, and by how much it is enlarged. */
export interface View {
  x: number;
  y: number;
  zoom: number;
}

const MIN_ZOOM = 0.08;
const MAX_ZOOM = 2;
/** Zooms between which everything is fitted: text stays readable, and is not enlarged much. */
const FIT = { min: 0.45, max: 1.15 };
const PADDING = 0.06;
/** Room around a box that is revealed, in pixels. */
const MARGIN = 24;

export function panned({ x, y, zoom }: View, dx: number, dy: number): View {
  return { x: x + dx, y: y + dy, zoom };
}

/** Zoom around a point of the frame, which stays where it is. */
export function zoomed(view: View, factor: number, x: number, y: number): View {
  const zoom = Math.min(MAX_ZOOM, Math.max(MIN_ZOOM, view.zoom * factor));
  const by = zoom / view.zoom;
  return { x: x - (x - view.x) * by, y: y - (y - view.y) * by, zoom };
}

/** Pan by as little as shows a box, whole if it fits, at a zoom at which it can be read. */
export function revealed(view: View, box: Box, width: number, height: number): View {
  const near =
    view.zoom < FIT.min ? zoomed(view, FIT.min / view.zoom, width / 2, height / 2) : view;
  const by = (start: number, size: number, room: number) => {
    const end = start + size;
    if (start < MARGIN || size > room - 2 * MARGIN) return MARGIN - start;
    return end > room - MARGIN ? room - MARGIN - end : 0;
  };
  const dx = by(near.x + box.x * near.zoom, box.width * near.zoom, width);
  const dy = by(near.y + box.y * near.zoom, box.height * near.zoom, height);
  return panned(near, dx, dy);
}

/** Show all boxes if they can be read then; otherwise show their beginning. */
export function fitted(boxes: readonly Box[], width: number, height: number): View {
  if (!boxes.length || !width || !height) return { x: 0, y: 0, zoom: 1 };
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const box of boxes) {
    left = Math.min(left, box.x);
    top = Math.min(top, box.y);
    right = Math.max(right, box.x + box.width);
    bottom = Math.max(bottom, box.y + box.height);
  }
  const room = 1 - 2 * PADDING;
  const ideal = Math.min((width * room) / (right - left), (height * room) / (bottom - top));
  const zoom = Math.min(FIT.max, Math.max(FIT.min, ideal));
  const place = (from: number, to: number, size: number) => {
    const free = size - (to - from) * zoom;
    return Math.max(free / 2, size * PADDING) - from * zoom;
  };
  return { x: place(left, right, width), y: place(top, bottom, height), zoom };
}

/** Return the part of the surface that a frame shows, with a margin of so many frames around it. */
export function areaOf({ x, y, zoom }: View, width: number, height: number, margin: number): Box {
  const [wide, high] = [width / zoom, height / zoom];
  return {
    x: -x / zoom - wide * margin,
    y: -y / zoom - high * margin,
    width: wide * (1 + 2 * margin),
    height: high * (1 + 2 * margin),
  };
}

export function overlap(one: Box, other: Box): boolean {
  return (
    one.x < other.x + other.width &&
    other.x < one.x + one.width &&
    one.y < other.y + other.height &&
    other.y < one.y + one.height
  );
}
