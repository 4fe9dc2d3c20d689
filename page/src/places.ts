// Positions in row-major arrays.

export function unravel(index: number, shape: number[]): number[] {
  let rest = index;
  return shape.toReversed().map((size) => {
    const place = rest % size;
    rest = Math.floor(rest / size);
    return place;
  }).toReversed(); // prettier-ignore
}

export function ravel(places: number[], shape: number[]): number {
  return places.reduce((position, place, axis) => position * shape[axis]! + place, 0);
}

/** A number as it was typed, as a place below `size`. */
export function clamped(text: string, size: number): number {
  return Math.max(0, Math.min(size - 1, Math.floor(Number(text) || 0)));
}
