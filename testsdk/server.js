// Builds and runs servers under test, on free ports, with data of their own.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

// startServers starts n servers that know each other, and returns their base URLs and a function that stops them.
// MYELIN_BINARY names a binary to use instead of building one.
export async function startServers(n) {
  const dir = mkdtempSync(join(tmpdir(), "myelin-sdk-"));
  const binary = process.env.MYELIN_BINARY ?? build(dir);
  const tls = certificate(dir);
  const servers = await Promise.all(Array.from({ length: n }, (_, i) => start(binary, join(dir, `${i}`), tls)));
  return {
    urls: servers.map((server) => server.url),
    stop: async () => {
      await Promise.all(servers.map((server) => server.stop()));
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

// start runs one server. Its name has the port at which others reach it.
async function start(binary, dir, tls) {
  const [client, federation] = [await freePort(), await freePort()];
  const config = `${dir}.yaml`;
  writeFileSync(config, JSON.stringify({ // which is YAML too
    server_name: `127.0.0.1:${federation}`,
    data_dir: dir,
    listen: [{ address: `127.0.0.1:${client}` }, { address: `127.0.0.1:${federation}`, tls_cert: tls.cert, tls_key: tls.key }],
    registration: "open",
    password_hash_cost: 4,
    rate_limits: { enabled: false },
    federation: { ca_file: tls.cert },
    outbound: { allow_private_addresses: true },
    log: { level: "warn" },
  }));
  const server = spawn(binary, ["serve", "--config", config], { stdio: ["ignore", "ignore", "inherit"] });
  const ended = new Promise((resolve) => server.once("exit", resolve));
  const url = `http://127.0.0.1:${client}`;
  await untilReady(url, ended);
  return {
    url,
    stop: async () => {
      server.kill("SIGTERM");
      await ended;
    },
  };
}

// certificate makes a certificate that all servers show and trust.
function certificate(dir) {
  const [key, cert] = [join(dir, "tls.key"), join(dir, "tls.crt")];
  execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"], { stdio: "ignore" });
  return { key, cert };
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
