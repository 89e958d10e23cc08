// Two phones in one page of a headless Chromium: registrations, messages and calls between them, step by step.
//
// Usage: PAIRLINE_PHONES='{"page": NAME, "hosts": {NAME: ADDRESS, …}, "certificates": [FILE, …],
//          "phones": [{"kind", "user", "domain", "password", "server"}, ×2]}' node run.mjs
// Prints a line for each step; ends with 0 if all of them succeeded. Passwords come by the environment, which no list of processes shows.

import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import puppeteer from 'puppeteer-core';

const STEP_MS = 20_000;
const { page: host, hosts, certificates, phones } = JSON.parse(process.env.PAIRLINE_PHONES);

// The page and its script, under a name of the deployment: a page from elsewhere may not open its WebSockets.
async function serve() {
  const entry = join(dirname(fileURLToPath(import.meta.url)), 'phones.js');
  const bundle = await build({ entryPoints: [entry], bundle: true, write: false, format: 'iife', define: { global: 'window' } });
  const script = bundle.outputFiles[0].text;
  const server = createServer((request, response) => {
    const [type, body] =
      request.url === '/phones.js'
        ? ['text/javascript; charset=utf-8', script]
        : ['text/html; charset=utf-8', '<!doctype html><title>phones</title><script src="/phones.js"></script>'];
    response.writeHead(200, { 'Content-Type': type }).end(body);
  });
  await new Promise((done, fail) => server.once('error', fail).listen(0, hosts[host], done));
  return server;
}

// Trusts the public keys of these certificates and no others.
function trust() {
  const pins = certificates.map((file) => {
    const key = new X509Certificate(readFileSync(file)).publicKey.export({ type: 'spki', format: 'der' });
    return createHash('sha256').update(key).digest('base64');
  });
  return `--ignore-certificate-errors-spki-list=${pins.join(',')}`;
}

function launch(origin) {
  const map = Object.entries(hosts).map(([name, address]) => `MAP ${name} ${address}`);
  return puppeteer.launch({
    executablePath: process.env.PAIRLINE_CHROMIUM ?? '/usr/bin/chromium',
    args: [
      trust(),
      `--host-resolver-rules=${map.join(', ')}`,
      // The microphone is for secure pages only, and this one is served without TLS.
      `--unsafely-treat-insecure-origin-as-secure=${origin}`,
      '--no-sandbox',
      '--disable-dev-shm-usage',
      '--use-fake-device-for-media-stream',
      '--use-fake-ui-for-media-stream',
      '--disable-background-networking',
    ],
  });
}

async function step(name, work) {
  const limit = new Promise((_, fail) => setTimeout(() => fail(new Error(`not within ${STEP_MS / 1000} s`)), STEP_MS).unref());
  const started = Date.now();
  try {
    const value = await Promise.race([work(), limit]);
    console.log(`ok ${name} (${Date.now() - started} ms)`);
    return value;
  } catch (error) {
    throw new Error(`${name}: ${error.message}`);
  }
}

async function talk(tell, from, to) {
  const names = `${from.kind} to ${to.kind}`;
  const target = `sip:${to.user}@${to.domain}`;
  await step(`message ${names}`, async () => {
    const text = `From ${from.kind} & friends <äöü>`;
    await tell('write', from.user, target, text);
    const got = await tell('text', to.user);
    if (got !== text) throw new Error(`came as ${JSON.stringify(got)}`);
  });
  await step(`call ${names}`, async () => {
    await tell('call', from.user, target);
    await tell('established', to.user);
    const offer = await tell('offered', from.user);
    if (!/UDP\/TLS\/RTP\/SAVPF/.test(offer)) throw new Error('the offer is not a browser\'s');
  });
  await step(`media ${names}`, () => Promise.all([tell('connected', from.user), tell('connected', to.user)]));
  await step(`end ${names}`, async () => {
    await tell('hangUp', to.user);
    await Promise.all([tell('ended', from.user), tell('ended', to.user)]);
  });
}

const server = await serve();
const origin = `http://${host}:${server.address().port}`;
const browser = await launch(origin);
try {
  const page = await browser.newPage();
  page.on('console', (message) => console.log(`page: ${message.text()}`));
  page.on('pageerror', (error) => console.log(`page: ${error.message}`));
  await page.goto(`${origin}/`);
  const tell = (what, ...args) => page.evaluate((what, args) => window.phone[what](...args), what, args);
  for (const phone of phones) await step(`register ${phone.kind} at ${phone.server}`, () => tell('start', phone));
  await talk(tell, phones[0], phones[1]);
  await talk(tell, phones[1], phones[0]);
} catch (error) {
  console.log(`FAILED ${error.message}`);
  process.exitCode = 1;
} finally {
  await browser.close();
  server.close();
}
