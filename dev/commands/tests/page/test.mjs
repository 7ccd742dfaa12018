// Drives the page of `cargo start` in Chromium: presses every button and holds what is shown against what is stored, then
// presses at random. Arguments: the folder of the workspace, and a seed.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";
import { Storage } from "./storage.mjs";

const [root, seed = String(Date.now() % 1e9)] = process.argv.slice(2);
// Nothing takes this long; a busy machine may take half of it.
const LIMIT = 600_000;
const PRESSES = 100;

async function until(what, check) {
  const deadline = Date.now() + LIMIT;
  let last;
  while (Date.now() < deadline) {
    try {
      if (await check()) return;
    } catch (error) {
      last = error;
    }
    await new Promise(resolve => setTimeout(resolve, 200));
  }
  throw new Error(`never: ${what}`, { cause: last });
}

// A running `cargo start`.
class Start {
  constructor(...options) {
    this.lines = [];
    const stdio = ["ignore", "pipe", "inherit"];
    this.process = spawn("cargo", ["start", "--free-ports", ...options], { cwd: root, detached: true, stdio });
    this.ended = new Promise(resolve => this.process.on("exit", resolve));
    createInterface({ input: this.process.stdout }).on("line", line => this.lines.push(line));
  }

  async ready() {
    await until("the connection string", () => this.lines.some(line => line.includes("AccountName=")));
    this.storage = new Storage(this.lines.find(line => line.includes("AccountName=")).trim());
    const [, address] = this.lines[0].match(/^Page: +(http:\/\/127\.0\.0\.1:\d+)$/);
    return address;
  }

  count(text) {
    return this.lines.filter(line => line.includes(text)).length;
  }

  async stop() {
    process.kill(-this.process.pid, "SIGINT");
    await this.ended;
  }
}

// The page in a browser.
class View {
  static async open(browser, address) {
    const view = new View();
    view.page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
    view.problems = [];
    view.page.on("console", message => message.type() === "error" && view.problems.push(message.text()));
    view.page.on("pageerror", error => view.problems.push(`${error}`));
    view.page.on("request", request => {
      if (!request.url().startsWith(`${address}/`) && request.url() !== "data:,") view.problems.push(request.url());
    });
    // A broken promise that is shown for a moment is one too many.
    await view.page.addInitScript(() => {
      window.broken = [];
      new MutationObserver(() => {
        for (const item of document.querySelectorAll("#promises li")) {
          if (item.querySelector(".broken")) window.broken.push(item.textContent);
        }
      }).observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
    });
    await view.page.goto(address);
    await until("the first promise", () => view.page.locator("#promises li").first().isVisible());
    return view;
  }

  button(name) {
    return this.page.locator(`[data-press=${name}]`);
  }

  async press(name) {
    const answer = this.page.waitForResponse(response => response.url().endsWith(`/press/${name}`));
    await this.button(name).click();
    return (await answer).text();
  }

  async number(id) {
    return Number((await this.page.locator(`#${id}`).textContent()).replaceAll(",", ""));
  }

  async shows(expected) {
    for (const [id, value] of Object.entries(expected)) {
      await until(`${id} = ${value}`, async () => (await this.number(id)) === value);
    }
  }

  async delivery(outcome, text = "") {
    const row = this.page.locator("#deliveries tr", { hasText: outcome }).filter({ hasText: text }).first();
    await until(`a delivery: ${outcome} ${text}`, () => row.isVisible());
    return row.locator("td").allTextContents();
  }

  // The places of everything that must not jump.
  places() {
    return this.page.evaluate(() => [...document.querySelectorAll("section, h2, h3, button")].map(element => {
      const { x, y, width } = element.getBoundingClientRect();
      return [element.textContent.slice(0, 20), x, y + scrollY, width].join(" ");
    }));
  }

  async check() {
    assert.deepEqual(await this.page.evaluate(() => window.broken), []);
    assert.deepEqual(this.problems, []);
  }
}

async function everyButton(start, view) {
  const { storage } = start;
  const places = await view.places();
  const order = (await view.press("order")).replace("Sent ", "");
  await view.delivery("New", order);
  await view.shows({ records: 1, events: 1, orders: 0, unpublished: 0 });
  const { id } = JSON.parse(order);
  assert.deepEqual((await storage.receipts()).map(receipt => JSON.parse(receipt).id), [id]);

  await view.press("again");
  await view.delivery("Duplicate", id);
  await view.press("conflict");
  await view.delivery("Conflict", id);
  for (let kind = 0; kind < 3; kind++) await view.press("nonsense");
  await view.shows({ quarantine: 4, records: 1, events: 1, orders: 0 });
  assert.equal(await storage.length("orders-quarantine"), 4);
  assert.equal((await storage.receipts()).length, 1);
  const kept = await view.page.locator("#list-quarantine").textContent();
  for (const reason of ["conflict", "missing_id", "invalid_order", "invalid_json"]) assert.ok(kept.includes(reason), kept);

  await view.press("thousand");
  await view.shows({ records: 1_001, orders: 0, events: 1_001 });
  assert.equal(new Set(await storage.receipts()).size, 1_001);
  assert.equal(await storage.length("order-events"), 1_001);
  assert.deepEqual(await view.places(), places, "the page jumps");

  await view.press("kill");
  await until("another handler", () => start.count("Worker process started") === 2);
  await view.press("cut");
  await until("pressed", async () => (await view.button("cut").getAttribute("aria-pressed")) === "true");
  const held = JSON.parse((await view.press("order")).replace("Sent ", "")).id;
  await view.delivery("Held", held);
  assert.equal((await storage.receipts()).length, 1_001);
  await view.press("cut");
  await view.delivery("New", held);

  await view.press("slow");
  const slow = JSON.parse((await view.press("order")).replace("Sent ", "")).id;
  const [, , , , time] = await view.delivery("New", slow);
  assert.ok(Number(time.replaceAll(",", "")) >= 1_000, time);
  await view.press("slow");
  await view.press("lose");
  const lost = JSON.parse((await view.press("order")).replace("Sent ", "")).id;
  await until("the commit", async () => (await storage.receipts()).some(receipt => receipt.includes(`"${lost}"`)));
  await view.press("lose");
  await view.press("timer");
  await view.delivery("Timer ran", "timer");
}

async function itsUse(_, view) {
  const { page } = view;
  await view.button("again").focus();
  await page.keyboard.press("Shift+Tab");
  assert.equal(await page.evaluate(() => document.activeElement.dataset.press), "order");
  assert.match(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), /solid/);
  const records = await view.number("records");
  await page.keyboard.press("Enter");
  await view.shows({ records: records + 1 });
  await page.setViewportSize({ width: 360, height: 740 });
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
  await page.setViewportSize({ width: 1280, height: 900 });
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.emulateMedia({ colorScheme: "light" });
  const light = await ground();
  await page.emulateMedia({ colorScheme: "dark" });
  assert.notEqual(await ground(), light);
}

// https://en.wikipedia.org/wiki/Linear_congruential_generator
function random(seed) {
  let state = BigInt(seed);
  return limit => {
    state = (state * 6364136223846793005n + 1442695040888963407n) % 2n ** 64n;
    return Number((state >> 33n) % BigInt(limit));
  };
}

async function atRandom({ storage }, view) {
  const draw = random(seed);
  const names = await view.page.locator("[data-press]").evaluateAll(buttons => buttons.map(button => button.dataset.press));
  const sent = { orders: new Set(), nonsense: 0 };
  const before = { records: new Set(await storage.receipts()), quarantine: await storage.length("orders-quarantine") };
  const switches = new Map(["cut", "slow", "lose"].map(name => [name, false]));
  for (let press = 0; press < PRESSES; press++) {
    const name = names[draw(names.length)];
    const said = await view.press(name);
    // A thousand orders are many: once is enough.
    if (name === "thousand") names.splice(names.indexOf(name), 1);
    if (switches.has(name)) switches.set(name, !switches.get(name));
    const [, text] = said.match(/^Sent (.*"order-[a-z]+-\d+".*)$/) ?? [];
    if (text) sent.orders.add(JSON.parse(text).id);
    if (!text && name === "nonsense") sent.nonsense += 1;
  }
  for (const [name, isOn] of switches) if (isOn) await view.press(name);
  console.log(new Date().toISOString(), "settling");
  await until("all settled", async () => {
    const counts = await Promise.all(["orders", "in-flight", "poison", "unpublished"].map(id => view.number(id)));
    if (counts.every(count => count === 0)) return true;
    // What was left unpublished, or was given up, waits for the timer.
    if (counts[0] === 0 && counts[1] === 0) await view.press("timer");
    await new Promise(resolve => setTimeout(resolve, 2_000));
    return false;
  });
  const receipts = await storage.receipts();
  const ids = new Set(receipts.map(receipt => JSON.parse(receipt).id));
  assert.equal(ids.size, receipts.length, "an id took effect twice");
  for (const id of sent.orders) assert.ok(ids.has(id), `lost: ${id}`);
  assert.ok((await storage.length("orders-quarantine")) >= before.quarantine + sent.nonsense);
  for (const receipt of before.records) assert.ok(receipts.includes(receipt), `another receipt than ${receipt}`);
  const events = (await storage.take("order-events")).map(text => JSON.parse(Buffer.from(text, "base64").toString()));
  const effects = new Map(events.map(event => [event.subject, new Set()]));
  for (const { subject, id } of events) effects.get(subject).add(id);
  assert.deepEqual([...effects.keys()].sort(), [...ids].sort(), "orders with events");
  for (const [order, found] of effects) assert.equal(found.size, 1, `events of ${order}`);
  const promises = await view.page.locator("#promises li").allTextContents();
  assert.ok(promises.length === 5 && promises.every(text => text.startsWith("✓ Kept")), promises.join("\n"));
  console.log(promises.join("\n"));
}

async function storageAlone(browser) {
  const start = new Start("--host", "none");
  try {
    const view = await View.open(browser, await start.ready());
    await until("the reasons", async () => /needs the local host/.test(await view.page.locator("#why").textContent()));
    for (const name of ["kill", "cut", "slow", "lose"]) {
      assert.equal(await view.button(name).getAttribute("aria-disabled"), "true");
      await view.button(name).click({ force: true });
      assert.match(await view.page.locator("#said").textContent(), /needs the local host/);
    }
    await view.press("order");
    await view.press("nonsense");
    await view.shows({ orders: 2 });
    await until("both on their way", async () => /2 on their way and 0 lost/.test(await view.page.locator("#promises").textContent()));
    assert.equal(await start.storage.length("orders"), 2);
    await view.check();
  } finally {
    await start.stop();
  }
}

const options = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync";
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const browser = await chromium.launch({ executablePath, headless: true, args: options.split(" ") });
const start = new Start("--host", "local");
console.log(`seed ${seed}`);
try {
  const view = await View.open(browser, await start.ready());
  await until("running", async () => (await view.page.locator("#stage").textContent()) === "Running.");
  for (const part of [everyButton, itsUse, atRandom]) {
    console.log(new Date().toISOString(), part.name);
    await part(start, view).catch(async error => {
      console.log(await view.page.locator("main").innerText().catch(String), start.lines.slice(-40).join("\n"));
      throw error;
    });
    await view.check();
  }
} finally {
  await start.stop();
}
console.log(new Date().toISOString(), "storageAlone");
await storageAlone(browser);
await browser.close();
