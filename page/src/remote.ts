// What only a server can tell: one weight at one step, what follows from a change, and the run as it goes on.

import { useEffect, useState } from "preact/hooks";
import { unpack, type Change, type Consequence, type Derivation, type Source } from "./document";

export interface Answer {
  value: number;
  gradient: number;
  update: number;
  new: number;
  derivation: Derivation | null;
}

/** Asks the server for one weight; null while it has not answered, a text where it could not. */
export function useWeight(served: boolean, parameter: string, index: number[], step: number): Answer | string | null {
  return useAnswer<Answer>(served, "explain", { parameter, index: index.join(","), step: String(step) });
}

/** Asks the server what follows from a change; as `useWeight`. */
export function useConsequence(served: boolean, step: number, change: Change): Omit<Consequence, "change"> | string | null {
  const told = Object.entries(change).map(([key, value]): [string, string] => [key, String(value)]);
  return useAnswer<Omit<Consequence, "change">>(served, "what_if", { ...Object.fromEntries(told), step: String(step) });
}

const REST = 150; // milliseconds that a question must stand: a slider asks many

function useAnswer<T>(served: boolean, about: string, question: Record<string, string>): T | string | null {
  const [told, tell] = useState<{ address: string; answer: T | string } | null>(null);
  const address = `${about}?${new URLSearchParams(question)}`;
  useEffect(() => {
    if (!served) return;
    const stop = new AbortController();
    const ask = async (): Promise<void> => {
      try {
        const response = await fetch(address, { signal: stop.signal });
        const body = (await response.json()) as T & { error?: string };
        tell({ address, answer: body.error ?? body });
      } catch (error: unknown) {
        if (!stop.signal.aborted) tell({ address, answer: String(error) });
      }
    };
    const timer = setTimeout(() => void ask(), REST);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [served, address]);
  return told?.address === address ? told.answer : null; // never the answer to an earlier question
}

const PAUSE = 2000; // milliseconds between two looks at a run that goes on

/** Looks for new steps while the run goes on. */
export function useLive(source: Source, update: (source: Source) => void): void {
  const { live } = source.document;
  useEffect(() => {
    if (!live?.running) return;
    let over = false;
    const look = async (): Promise<void> => {
      try {
        const response = await fetch(`document?after=${live.version}`);
        if (response.status === 200 && !over) {
          const { document, tensors } = (await response.json()) as { document: string; tensors: string };
          return update(await unpack(document, tensors));
        }
      } catch {
        // The server may be gone; the page keeps what it has and looks again.
      }
      if (!over) timer = setTimeout(() => void look(), PAUSE);
    };
    let timer = setTimeout(() => void look(), PAUSE);
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [source]);
}
