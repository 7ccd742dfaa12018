// Reads what is stored, over the network and not through the page.
import { createHmac } from "node:crypto";

export class Storage {
  constructor(connection) {
    const parts = Object.fromEntries(connection.split(";").filter(Boolean).map(part => part.split(/=(.*)/s)));
    this.queues = parts.QueueEndpoint;
    this.tables = parts.TableEndpoint;
    // https://learn.microsoft.com/rest/api/storageservices/create-account-sas
    const fields = { sp: "rwdlacup", ss: "qt", srt: "sco", st: "", se: "2099-01-01", sip: "", spr: "", sv: "2018-11-09" };
    const text = [parts.AccountName, ...Object.values(fields), ""].join("\n");
    const sig = createHmac("sha256", Buffer.from(parts.AccountKey, "base64")).update(text).digest("base64");
    this.sas = new URLSearchParams({ ...fields, sig });
    for (const name of ["st", "sip", "spr"]) this.sas.delete(name);
  }

  async get(url, parameters) {
    const headers = { accept: "application/json;odata=nometadata" };
    const answer = await fetch(`${url}?${new URLSearchParams({ ...parameters, ...Object.fromEntries(this.sas) })}`, { headers });
    if (!answer.ok && answer.status !== 404) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
    return answer;
  }

  async rows(prefix) {
    const rows = [];
    for (let next = {}; next; ) {
      const answer = await this.get(`${this.tables}/idempotency()`, next);
      if (answer.status === 404) return rows;
      rows.push(...(await answer.json()).value.filter(row => row.RowKey.startsWith(prefix)));
      const [partition, row] = ["partitionkey", "rowkey"].map(key => answer.headers.get(`x-ms-continuation-next${key}`));
      next = partition && { NextPartitionKey: partition, ...(row && { NextRowKey: row }) };
    }
    return rows;
  }

  async receipts() {
    return (await this.rows("record~")).map(row => row.receipt);
  }

  async length(queue) {
    const answer = await this.get(`${this.queues}/${queue}`, { comp: "metadata" });
    return Number(answer.headers.get("x-ms-approximate-messages-count"));
  }

  // Takes every message off a queue, for an hour.
  async take(queue) {
    const texts = [];
    for (;;) {
      const answer = await this.get(`${this.queues}/${queue}/messages`, { numofmessages: 32, visibilitytimeout: 3600 });
      const found = [...(await answer.text()).matchAll(/<MessageText>(.*?)<\/MessageText>/gs)];
      if (found.length === 0) return texts;
      const entities = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&", "#13": "\r", "#xD": "\r", "#xA": "\n" };
      texts.push(...found.map(([, text]) => text.replace(/&(#?\w+);/g, (_, name) => entities[name])));
    }
  }
}
