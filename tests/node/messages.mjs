// Documented flows of Anthropic's package against a running node; prints what came back as JSON.
// Arguments: base URL, API key, the name of the flow.

import Anthropic from "@anthropic-ai/sdk";

const [baseURL, apiKey, flow] = process.argv.slice(2);
const client = new Anthropic({ baseURL, apiKey, maxRetries: 2 });
const messages = [{ role: "user", content: "hi" }];
const ask = { model: "tiny-chat", max_tokens: 400, messages };
const properties = { city: { type: "string" } };
const tools = [{ name: "f", input_schema: { type: "object", properties } }];

const flows = {
  async models() {
    const listed = [];
    for await (const model of client.models.list({ limit: 2 })) listed.push(model.id);
    const one = await client.models.retrieve("org/tiny-text");
    return { listed, one: one.id, created: one.created_at };
  },

  async create() {
    const { data, response } = await client.messages.create(ask).withResponse();
    const headers = Object.fromEntries(response.headers);
    return { content: data.content, reason: data.stop_reason, usage: data.usage, headers };
  },

  async stream() {
    let text = "";
    const stream = client.messages.stream(ask).on("text", (piece) => (text += piece));
    const final = await stream.finalMessage();
    return { text, final: final.content[0].text, usage: final.usage, id: stream.request_id };
  },

  async rawStream() {
    const kinds = [];
    const stream = await client.messages.create({ ...ask, stream: true });
    for await (const event of stream) kinds.push(event.type);
    return kinds;
  },

  async tools() {
    const answer = await client.messages.stream({ ...ask, tools }).finalMessage();
    const call = answer.content.find((block) => block.type === "tool_use");
    const result = { type: "tool_result", tool_use_id: call.id, content: "7" };
    const history = [
      ...messages,
      { role: "assistant", content: answer.content },
      { role: "user", content: [result] },
    ];
    const next = await client.messages.create({ ...ask, messages: history, tools });
    return { reason: answer.stop_reason, name: call.name, input: call.input, next: next.content };
  },

  async count() {
    return await client.messages.countTokens({ model: "tiny-chat", messages });
  },

  async errors() {
    const attempts = {
      badRequest: () => client.messages.create({ ...ask, max_tokens: 0 }),
      badStream: () => client.messages.stream({ ...ask, max_tokens: 0 }).finalMessage(),
      notFound: () => client.messages.create({ ...ask, model: "claude" }),
      noModel: () => client.models.retrieve("nobody"),
      unauthorized: () => new Anthropic({ baseURL, apiKey: "sk-no" }).models.list(),
    };
    const caught = {};
    for (const [name, attempt] of Object.entries(attempts)) {
      try {
        await attempt();
      } catch (error) {
        const { status, type, requestID } = error;
        caught[name] = { kind: error.constructor.name, status, type, requestID };
      }
    }
    return caught;
  },

  async brokenStream() {
    let text = "";
    try {
      const stream = client.messages.stream(ask).on("text", (piece) => (text += piece));
      await stream.finalMessage();
    } catch (error) {
      return { text, message: error.message, type: error.type };
    }
    return { text };
  },
};

console.log(JSON.stringify(await flows[flow]()));
