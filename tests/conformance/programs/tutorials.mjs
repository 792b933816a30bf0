// The tutorials' programs and what users do next, with amqplib. Prints a line for each case.

import assert from "node:assert/strict";
import { once } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import amqp from "amqplib";

const SECONDS = 10_000;

/** The next messages of a queue, by a consumer that ends then. */
async function take(channel, queue, count, options = {}) {
  const messages = [];
  let enough;
  const all = new Promise((resolve) => (enough = resolve));
  const { consumerTag } = await channel.consume(queue, (message) => {
    if (message === null || messages.length === count) return;
    messages.push(message);
    if (!options.noAck) channel.ack(message);
    if (messages.length === count) enough();
  }, options);
  await Promise.race([all, pause(SECONDS, undefined, { ref: false })]);
  assert.equal(messages.length, count, `${messages.length} of ${count} messages came`);
  await channel.cancel(consumerTag);
  return messages;
}

const bodies = (messages) => messages.map((message) => message.content.toString());
const ownQueue = async (channel) => (await channel.assertQueue("", { exclusive: true })).queue;
const send = (channel, queue, text, options) => channel.sendToQueue(queue, Buffer.from(text), options);

const cases = {
  async "hello world"(channel) {
    await channel.assertQueue("hello", { durable: false });
    send(channel, "hello", "Hello World!");
    assert.deepEqual(bodies(await take(channel, "hello", 1, { noAck: true })), ["Hello World!"]);
  },

  async "work queues"(channel, connection) {
    await channel.assertQueue("tasks", { durable: true });
    for (let number = 0; number < 10; number++) send(channel, "tasks", `${number}`, { persistent: true });
    const done = [[], []];
    for (const bag of done) {
      const worker = await connection.createChannel();
      await worker.prefetch(1);
      await worker.consume("tasks", async (message) => {
        await pause(5);
        worker.ack(message);
        bag.push(Number(message.content));
      });
    }
    for (let waited = 0; done.flat().length < 10 && waited < SECONDS; waited += 20) await pause(20);
    assert.deepEqual(done.flat().sort(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert.ok(done.every((bag) => bag.length > 0), "one worker got everything");
  },

  async "publish subscribe"(channel) {
    await channel.assertExchange("logs", "fanout", { durable: false });
    const queues = [await ownQueue(channel), await ownQueue(channel)];
    for (const queue of queues) await channel.bindQueue(queue, "logs", "");
    channel.publish("logs", "", Buffer.from("info"));
    for (const queue of queues) assert.deepEqual(bodies(await take(channel, queue, 1)), ["info"]);
  },

  async routing(channel) {
    await channel.assertExchange("direct_logs", "direct", { durable: false });
    const queue = await ownQueue(channel);
    for (const severity of ["info", "error"]) await channel.bindQueue(queue, "direct_logs", severity);
    for (const severity of ["info", "debug", "error"]) channel.publish("direct_logs", severity, Buffer.from(severity));
    assert.deepEqual(bodies(await take(channel, queue, 2)), ["info", "error"]);
  },

  async topics(channel) {
    await channel.assertExchange("topic_logs", "topic", { durable: false });
    const queue = await ownQueue(channel);
    for (const pattern of ["kern.#", "*.critical"]) await channel.bindQueue(queue, "topic_logs", pattern);
    const keys = ["kern", "kern.critical", "cron.info", "cron.critical", "a.b.critical"];
    for (const key of keys) channel.publish("topic_logs", key, Buffer.from(key));
    assert.deepEqual(bodies(await take(channel, queue, 3)), ["kern", "kern.critical", "cron.critical"]);
  },

  async "remote procedure call"(channel) {
    await channel.assertQueue("rpc_queue", { durable: false });
    const callback = await ownQueue(channel);
    send(channel, "rpc_queue", "30", { correlationId: "one", replyTo: callback });
    const [request] = await take(channel, "rpc_queue", 1);
    const { replyTo, correlationId } = request.properties;
    send(channel, replyTo, `${Number(request.content) + 1}`, { correlationId });
    const [reply] = await take(channel, callback, 1);
    assert.deepEqual([reply.properties.correlationId, reply.content.toString()], ["one", "31"]);
  },

  async "direct reply-to"(channel, connection) {
    await channel.assertQueue("rpc_direct", { durable: false });
    const reply = new Promise((resolve) => channel.consume("amq.rabbitmq.reply-to", resolve, { noAck: true }));
    send(channel, "rpc_direct", "ping", { replyTo: "amq.rabbitmq.reply-to" });
    const server = await connection.createChannel();
    const [request] = await take(server, "rpc_direct", 1);
    send(server, request.properties.replyTo, "pong");
    const message = await Promise.race([reply, pause(SECONDS, null, { ref: false })]);
    assert.equal(message?.content.toString(), "pong");
  },

  async "publisher confirms"(_, connection) {
    const channel = await connection.createConfirmChannel();
    await channel.assertQueue("confirmed", { durable: true });
    for (let number = 0; number < 50; number++) send(channel, "confirmed", `${number}`, { persistent: true });
    await channel.waitForConfirms();
    assert.equal((await channel.checkQueue("confirmed")).messageCount, 50);
    assert.equal((await channel.purgeQueue("confirmed")).messageCount, 50);
    const returned = once(channel, "return");
    send(channel, "nowhere", "lost", { mandatory: true });
    await channel.waitForConfirms();
    const [message] = await returned;
    assert.deepEqual([message.fields.replyCode, message.fields.replyText], [312, "NO_ROUTE"]);
  },

  async "a missing queue costs the channel only"(channel, connection) {
    const failed = once(channel, "error");
    await assert.rejects(channel.checkQueue("nope"), /404.*no queue 'nope' in vhost '\/'/);
    assert.equal((await failed)[0].code, 404);
    await ownQueue(await connection.createChannel());
  },

  async "a deleted queue ends its consumers"(channel, connection) {
    const queue = (await channel.assertQueue("doomed", { durable: false })).queue;
    const ended = new Promise((resolve) => channel.consume(queue, resolve));
    await (await connection.createChannel()).deleteQueue(queue);
    assert.equal(await Promise.race([ended, pause(SECONDS, "it goes on", { ref: false })]), null);
  },

  async "rejected messages come back in their place"(channel) {
    const queue = await ownQueue(channel);
    for (const text of ["0", "1", "2"]) send(channel, queue, text);
    channel.nack(await channel.get(queue), false, true);
    const messages = await take(channel, queue, 3);
    assert.deepEqual(bodies(messages), ["0", "1", "2"]);
    assert.deepEqual(messages.map((message) => message.fields.redelivered), [true, false, false]);
  },

  async "dead letters tell where they died"(channel) {
    const graveyard = await ownQueue(channel);
    const { queue } = await channel.assertQueue("mortal", {
      exclusive: true, deadLetterExchange: "", deadLetterRoutingKey: graveyard, messageTtl: 20,
    });
    send(channel, queue, "soul");
    const [message] = await take(channel, graveyard, 1);
    const [death] = message.properties.headers["x-death"];
    assert.deepEqual([death.queue, death.reason, death.count], ["mortal", "expired", 1]);
  },

  async "urgent messages go first"(channel) {
    const { queue } = await channel.assertQueue("", { exclusive: true, maxPriority: 9 });
    for (const priority of [1, 9, 5]) send(channel, queue, `${priority}`, { priority });
    assert.deepEqual(bodies(await take(channel, queue, 3)), ["9", "5", "1"]);
  },

  async "headers select a queue"(channel) {
    await channel.assertExchange("forms", "headers", { durable: false });
    const queue = await ownQueue(channel);
    await channel.bindQueue(queue, "forms", "", { "x-match": "all", kind: "invoice", year: 2026 });
    for (const headers of [{ kind: "invoice" }, { kind: "invoice", year: 2026, more: true }]) {
      channel.publish("forms", "", Buffer.from(JSON.stringify(headers)), { headers });
    }
    const [message] = await take(channel, queue, 1);
    assert.equal(message.properties.headers.more, true);
  },

  async "a megabyte goes through"(channel) {
    const queue = await ownQueue(channel);
    const body = Buffer.alloc(1_000_000, "warren");
    channel.sendToQueue(queue, body);
    const [message] = await take(channel, queue, 1);
    assert.ok(message.content.equals(body));
  },
};

for (const [name, test] of Object.entries(cases)) {
  const connection = await amqp.connect("amqp://guest:guest@localhost:5672");
  connection.on("error", () => {});
  try {
    const channel = await connection.createChannel();
    channel.on("error", () => {});
    await test(channel, connection);
    console.log(`passed\t${name}`);
  } catch (error) {
    console.log(`failed\t${name}\t${String(error).replace(/\s+/g, " ")}`);
  }
  await connection.close().catch(() => {});
}
