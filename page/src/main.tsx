import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { App } from "./app";
import { embedded } from "./document";

const root = document.getElementById("page")!;

embedded().then(
  (source) => {
    root.replaceChildren();
    render(<App source={source} />, root);
    root.dataset["ready"] = "true";
  },
  (error: unknown) => {
    root.textContent = `This report cannot be shown: ${error instanceof Error ? error.message : String(error)}`;
  },
);
