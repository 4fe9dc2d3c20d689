// Numbers as people read them: the sign by glyph and by hue, aligned digits, the exact value beside.

const MINUS = "−";

/** Four significant digits; very large and very small numbers in powers of ten. */
export function format(value: number, digits = 4, signed = false): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+∞" : `${MINUS}∞`;
  if (value === 0) return "0";
  const size = Math.abs(value);
  let text: string;
  if (size >= 1e6 || size < 1e-3) {
    const [mantissa = "", exponent = "0"] = size.toExponential(digits - 1).split("e");
    const power = exponent.replace("+", "").replace("-", MINUS);
    text = `${trim(mantissa)}e${power}`;
  } else {
    text = trim(size.toPrecision(digits));
    if (text.includes("e")) text = String(Math.round(size));
  }
  return (value < 0 ? MINUS : signed ? "+" : "") + text;
}

function trim(text: string): string {
  return text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text;
}

/** Every digit that tells this number from its neighbours. */
export function exact(value: number, single = true): string {
  if (!Number.isFinite(value)) return format(value);
  const text = single ? String(Number(value.toPrecision(9))) : String(value);
  return text.replace("-", MINUS);
}

export function count(value: number): string {
  return value.toLocaleString("en-US");
}

/** A signed number. */
export function Num({ value, digits = 4, plain = false }: { value: number; digits?: number; plain?: boolean }) {
  const sign = plain || !(Math.abs(value) > 0) ? "zero" : value > 0 ? "positive" : "negative";
  return (
    <span class={`num ${sign}`} data-value={String(value)} title={exact(value)}>
      {format(value, digits, !plain)}
    </span>
  );
}
