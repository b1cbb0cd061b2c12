// What the builder does not do by itself: TypeScript, and JupyterLabs older than the builder.

const { dependencies } = require("./package.json");

// By itself the builder asks for at least the JupyterLab that it belongs to.
const { sharedPackages } = require("./package.json").jupyterlab;
for (const name of Object.keys(sharedPackages)) {
  if (sharedPackages[name].requiredVersion !== dependencies[name]) {
    throw new Error(`${name}: sharedPackages and dependencies name different versions.`);
  }
}

module.exports = {
  resolve: { extensions: [".ts", ".js"] },
  module: {
    rules: [
      {
        test: /\.ts$/,
        loader: "builtin:swc-loader",
        options: { jsc: { parser: { syntax: "typescript" }, target: "es2022" } },
        type: "javascript/auto",
      },
    ],
  },
};
