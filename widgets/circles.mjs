// Fails where modules import each other, directly or through others; a type counts as the rest.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const IMPORT = /^(?:import|export)\s[^;"']*?from\s+["'](\.[^"']+)["']/gm;

/** The modules of a folder, each with those that it imports, as paths below the folder. */
export function modulesOf(root, folders) {
  const modules = new Map();
  for (const folder of folders) {
    for (const name of readdirSync(join(root, folder), { recursive: true })) {
      if (!name.endsWith(".ts") || /(^|\/)(dist|node_modules)\//.test(name)) continue;
      const path = join(folder, name);
      const source = readFileSync(join(root, path), "utf8");
      modules.set(path, [...source.matchAll(IMPORT)].map(([, to]) => join(path, "..", `${to}.ts`)));
    }
  }
  return modules;
}

/** A circle of modules, the first again at its end; undefined where there is none. */
export function circleIn(modules) {
  const done = new Set();
  const visit = (path, way) => {
    if (way.includes(path)) return [...way.slice(way.indexOf(path)), path];
    if (done.has(path)) return undefined;
    for (const next of modules.get(path) ?? []) {
      const circle = visit(next, [...way, path]);
      if (circle) return circle;
    }
    done.add(path);
    return undefined;
  };
  for (const path of modules.keys()) {
    const circle = visit(path, []);
    if (circle) return circle;
  }
  return undefined;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folders = ["attention", "explorer", "lab", "run", "shared"];
  const circle = circleIn(modulesOf(fileURLToPath(new URL(".", import.meta.url)), folders));
  if (circle) {
    console.error(`These modules import each other: ${circle.join(" → ")}`);
    process.exit(1);
  }
}
