// Values as colours: blue below zero, orange above, the paper's own colour at zero. Grey for what has no sign.

export type Rgb = readonly [number, number, number];

const SCHEMES = {
  light: { zero: [250, 248, 244], positive: [183, 78, 6], negative: [24, 88, 168], ink: [32, 33, 36] },
  dark: { zero: [28, 30, 34], positive: [255, 158, 84], negative: [112, 178, 255], ink: [236, 236, 232] },
} as const;

export type Scheme = keyof typeof SCHEMES;

function mix(a: Rgb, b: Rgb, share: number): Rgb {
  return [0, 1, 2].map((i) => Math.round(a[i as 0] + (b[i as 0] - a[i as 0]) * share)) as unknown as Rgb;
}

/** The colour of a signed value, where `limit` is the strongest. A root makes small values visible. */
export function signed(value: number, limit: number, scheme: Scheme): Rgb {
  const { zero, positive, negative } = SCHEMES[scheme];
  if (!Number.isFinite(value)) return [214, 28, 120];
  const share = limit > 0 ? Math.sqrt(Math.min(1, Math.abs(value) / limit)) : 0;
  return mix(zero, value < 0 ? negative : positive, share);
}

/** The colour of a value that has no sign, from the paper to the ink. */
export function grey(value: number, lo: number, hi: number, scheme: Scheme): Rgb {
  const { zero, ink } = SCHEMES[scheme];
  return mix(zero, ink, hi > lo ? Math.max(0, Math.min(1, (value - lo) / (hi - lo))) : 0);
}

export function css(colour: Rgb): string {
  return `rgb(${colour[0]},${colour[1]},${colour[2]})`;
}

/** Black or white, whichever can be read on this colour. */
export function inkOn([r, g, b]: Rgb): string {
  const linear = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  const luminance = 0.2126 * linear[0]! + 0.7152 * linear[1]! + 0.0722 * linear[2]!;
  return luminance > 0.179 ? "#000" : "#fff";
}

/** The largest size of a finite element. */
export function extent(data: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < data.length; i++) {
    const size = Math.abs(data[i]!);
    if (size > most && size < Infinity) most = size;
  }
  return most;
}

export function range(data: ArrayLike<number>): [number, number] {
  let lo = Infinity;
  let hi = -Infinity;
  for (let i = 0; i < data.length; i++) {
    const value = data[i]!;
    if (value < lo) lo = value;
    if (value > hi) hi = value;
  }
  return lo <= hi ? [lo, hi] : [0, 0];
}
