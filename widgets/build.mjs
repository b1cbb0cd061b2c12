// Bundles each widget into nbllm/widgets/static, as anywidget loads it: one ES module and
// one stylesheet, nothing fetched at run time.
import { build } from "esbuild";

const WIDGETS = ["attention", "explorer", "run"];
const PAGES = ["attention"]; // which can also be a page of their own
const LARGEST = 150_000; // bytes of JavaScript a widget

const { metafile } = await build({
  entryPoints: [
    ...WIDGETS.flatMap((name) => [
      { in: `${name}/index.ts`, out: name },
      { in: `${name}/${name}.css`, out: name },
    ]),
    ...PAGES.map((name) => ({ in: `${name}/page.ts`, out: `${name}-page` })),
  ],
  outdir: "../nbllm/widgets/static",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  metafile: true,
  logLevel: "info",
});

for (const [path, { bytes }] of Object.entries(metafile.outputs)) {
  if (path.endsWith(".js") && bytes > LARGEST) {
    throw new Error(`${path} has ${bytes} bytes; a widget may have ${LARGEST}.`);
  }
}
