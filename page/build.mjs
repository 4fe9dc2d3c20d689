// Bundles the page into the Python package. The same sources and lock file give the same bytes; CI compares them.
import { build } from "esbuild";

const out = process.argv[2] ?? "../src/chainrule/explain/report/bundle";

await build({
  entryPoints: { page: "src/main.tsx" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  charset: "utf8",
  legalComments: "inline",
  jsx: "automatic",
  jsxImportSource: "preact",
  logLevel: "warning",
});
