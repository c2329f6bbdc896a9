// Builds the two pages from src/ into dist/, which the program embeds: `npm ci && npm run build`.
import { build } from "esbuild";

const folder = new URL("./", import.meta.url).pathname;
await build({
  absWorkingDir: folder,
  entryPoints: ["src/admin.tsx", "src/home.tsx", "src/console.css", "src/icon.svg", "src/admin.html", "src/home.html"],
  outdir: "dist",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  jsx: "automatic",
  jsxImportSource: "preact",
  loader: { ".svg": "copy", ".html": "copy" },
  legalComments: "none",
  logLevel: "warning",
});
