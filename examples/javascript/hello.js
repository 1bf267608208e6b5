// Greets, and shows what it was started with: a component from JavaScript, with the engine inside.
//
//     npm ci && npm run build -- -o hello-javascript.wasm
//     wasmatrix run hello-javascript.wasm arg1 arg2
//
// The world `hello` in ../wit says what it asks for and offers.

import { getArguments } from "wasi:cli/environment@0.2.0";

export const run = {
  run() {
    console.log("Hello from JavaScript!");
    getArguments()
      .slice(1)
      .forEach((argument, index) => console.log(`argument ${index + 1}: ${argument}`));
  },
};
