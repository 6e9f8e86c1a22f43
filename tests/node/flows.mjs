// Documented flows of the openai package against a running node; prints what came back as JSON.
// Arguments: base URL, API key, the name of the flow.

import OpenAI from "openai";

const [baseURL, apiKey, flow] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 2 });
const messages = [{ role: "user", content: "hi" }];
const model = "tiny-chat";

const flows = {
  async models() {
    const listed = [];
    for await (const model of client.models.list()) listed.push(model.id);
    const one = await client.models.retrieve("org/tiny-text");
    return { listed, one: one.id };
  },

  async chat() {
    const { data, response } = await client.chat.completions
      .create({ model, messages })
      .withResponse();
    const headers = Object.fromEntries(response.headers);
    return { content: data.choices[0].message.content, usage: data.usage, headers };
  },

  async stream() {
    const options = { include_usage: true };
    const stream = await client.chat.completions.create({
      model, messages, stream: true, stream_options: options,
    });
    let [content, usage] = ["", null];
    for await (const chunk of stream) {
      content += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    return { content, usage };
  },

  async tools() {
    const schema = { type: "object", properties: { city: { type: "string" } } };
    const tools = [{ type: "function", function: { name: "f", parameters: schema } }];
    const answer = await client.chat.completions.create({ model, messages, tools });
    const [call] = answer.choices[0].message.tool_calls;
    const result = { role: "tool", tool_call_id: call.id, content: "7" };
    const history = [...messages, answer.choices[0].message, result];
    const next = await client.chat.completions.create({ model, messages: history, tools });
    const finish = answer.choices[0].finish_reason;
    return { finish, call: call.function, next: next.choices[0].finish_reason };
  },

  async embeddings() {
    const answer = await client.embeddings.create({ model: "tiny-embedding", input: ["a", "bc"] });
    return answer.data.map((item) => Array.from(item.embedding));
  },

  async errors() {
    const attempts = {
      badRequest: () => client.chat.completions.create({ model, messages, temperature: 3 }),
      notFound: () => client.models.retrieve("nobody"),
      unauthorized: () => new OpenAI({ baseURL, apiKey: "sk-no" }).models.list(),
    };
    const caught = {};
    for (const [name, attempt] of Object.entries(attempts)) {
      try {
        await attempt();
      } catch (error) {
        const { status, code, param, requestID } = error;
        caught[name] = { kind: error.constructor.name, status, code, param, requestID };
      }
    }
    return caught;
  },

  async retry() {
    const started = Date.now();
    const answer = await client.chat.completions.create({ model, messages });
    return { content: answer.choices[0].message.content, waited: Date.now() - started };
  },

  async brokenStream() {
    let content = "";
    try {
      const stream = await client.chat.completions.create({ model, messages, stream: true });
      for await (const chunk of stream) content += chunk.choices[0]?.delta.content ?? "";
    } catch (error) {
      return { content, kind: error.constructor.name, type: error.type };
    }
    return { content };
  },
};

console.log(JSON.stringify(await flows[flow]()));
