// What the reader chose: one object, changed by patches; every view is drawn from it.

import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Change, Frame, Source } from "./document";
import type { Scheme } from "./colours";

export type View = "network" | "training" | "data" | "whatif" | "diagnosis";
export type Phase = "forward" | "backward";

export type Selection =
  | { kind: "node"; node: number; phase: Phase; element: number }
  | { kind: "weight"; parameter: number; index: number }
  | { kind: "module"; module: number; phase: Phase };

export interface State {
  view: View;
  frame: number;
  selection: Selection | null;
  cursor: number | null; // the place in the pass, where one is being stepped through
  change: Change | null; // what the what-if view asks about
  open: ReadonlySet<number>; // modules shown op by op
  theme: "auto" | "light" | "dark";
}

export interface Store {
  source: Source;
  state: State;
  frame: Frame;
  scheme: Scheme;
  set(patch: Partial<State>): void;
  say(text: string): void;
}

export const StoreContext = createContext<Store | null>(null);

export function useStore(): Store {
  const store = useContext(StoreContext);
  if (!store) throw new Error("no store");
  return store;
}
