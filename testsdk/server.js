// Builds and runs the server under test, on a free port, with data of its own.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

// startServer returns the server's base URL, and a function that stops it.
// MYELIN_BINARY names a binary to use instead of building one.
export async function startServer() {
  const dir = mkdtempSync(join(tmpdir(), "myelin-sdk-"));
  const binary = process.env.MYELIN_BINARY ?? build(dir);
  const port = await freePort();
  const server = spawn(
    binary,
    ["serve", "--server-name", "localhost", "--data-dir", join(dir, "data"), "--listen", `127.0.0.1:${port}`,
      "--registration", "open", "--password-hash-cost", "4", "--rate-limits-enabled=false"],
    { stdio: ["ignore", "ignore", "inherit"] },
  );
  const ended = new Promise((resolve) => server.once("exit", resolve));
  const url = `http://127.0.0.1:${port}`;
  await untilReady(url, ended);
  return {
    url,
    stop: async () => {
      server.kill("SIGTERM");
      await ended;
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function build(dir) {
  const binary = join(dir, "myelin");
  execFileSync("go", ["build", "-o", binary, "./cmd/myelin"], { cwd: join(dirname(fileURLToPath(import.meta.url)), ".."), stdio: "inherit" });
  return binary;
}

async function freePort() {
  const probe = createServer();
  await new Promise((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

async function untilReady(url, ended) {
  let over = false;
  ended.then(() => { over = true; });
  for (let attempt = 0; attempt < 600 && !over; attempt++) {
    const ready = await fetch(`${url}/ready`).then((r) => r.ok, () => false);
    if (ready) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(over ? "the server ended before it was ready" : "the server was not ready in 30 seconds");
}
