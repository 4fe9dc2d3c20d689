// Formulas: the nested lists that Python wrote become MathML elements, one by one; nothing is parsed as markup.

import { createElement, type VNode } from "preact";
import type { MathTree } from "./document";
import { format } from "./numbers";

const TAGS = new Set([
  "mrow", "mi", "mn", "mo", "mtext", "mfrac", "msup", "msub", "msubsup", "munder", "munderover", "mover", "msqrt",
  "mtable", "mtr", "mtd", "mspace", "mstyle",
]); // prettier-ignore
const ATTRIBUTES = new Set(["class", "largeop", "displaystyle", "stretchy", "mathvariant", "columnalign"]);

export type Lookup = (name: string) => number | null;

const DERIVATIVE = /^d(?=[A-Za-z])/;

/** A formula; with a lookup, its symbols are replaced by their numbers where these are known. */
export function Formula({ tree, numbers, label }: { tree: MathTree; numbers?: Lookup; label: string }) {
  return (
    <div class="formula scroll" tabIndex={0} role="group" aria-label={label}>
      <math display="block">{render(tree, numbers)}</math>
    </div>
  );
}

function render(tree: MathTree, numbers?: Lookup): VNode | string {
  if (typeof tree === "string") return tree;
  const [tag, ...rest] = tree;
  if (!TAGS.has(tag)) return "";
  const given = typeof rest[0] === "object" && !Array.isArray(rest[0]) ? (rest.shift() as Record<string, string>) : {};
  const name = given["data-name"];
  if (name !== undefined) return value(name, numbers);
  const attributes = Object.fromEntries(Object.entries(given).filter(([key]) => ATTRIBUTES.has(key)));
  const children = rest.map((child) => render(child as MathTree, numbers));
  return createElement(tag as "mrow", attributes as object, ...children) as VNode;
}

/** A symbol of a rule (dY is the gradient of the loss by Y), or its number. */
function value(name: string, numbers?: Lookup): VNode {
  const known = numbers?.(name);
  if (known !== null && known !== undefined) {
    const text = power(format(known));
    return known < 0 ? <mrow class="negative"><mo>(</mo>{text}<mo>)</mo></mrow> : <mrow class={known > 0 ? "positive" : ""}>{text}</mrow>;
  }
  if (DERIVATIVE.test(name)) {
    return <mfrac><mrow><mi>∂</mi><mi>L</mi></mrow><mrow><mi>∂</mi>{plain(name.slice(1))}</mrow></mfrac>;
  }
  return plain(name);
}

/** 1.5e−5 as a number and a power of ten. */
function power(text: string): VNode {
  const [mantissa, exponent] = text.split("e");
  if (!exponent) return <mn>{text}</mn>;
  return <mrow><mn>{mantissa}</mn><mo>·</mo><msup><mn>10</mn><mn>{exponent}</mn></msup></mrow>;
}

function plain(name: string): VNode {
  const [, letter = name, index] = /^([A-Za-z]+)(\d+)$/.exec(name) ?? [];
  return index ? <msub><mi>{letter}</mi><mn>{index}</mn></msub> : <mi>{name}</mi>;
}
