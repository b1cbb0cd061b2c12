// After the builder: what must not grow, and what tells JupyterLab that pip installed this.
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const LARGEST = 150_000; // bytes of JavaScript

const bytes = readdirSync("dist/static")
  .filter((name) => name.endsWith(".js"))
  .reduce((sum, name) => sum + statSync(join("dist/static", name)).size, 0);
if (bytes > LARGEST) {
  throw new Error(`The extension has ${bytes} bytes of JavaScript; it may have ${LARGEST}.`);
}

// Last, and with a time of its own: by it hatch_build.py knows when this was built.
writeFileSync("dist/install.json", readFileSync("install.json"));
