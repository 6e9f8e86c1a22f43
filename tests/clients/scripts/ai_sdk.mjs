// The AI SDK's loop of tool calls, with the providers of three wire formats.
// Usage: ai_sdk.mjs URL MODEL FOLDER INSTRUCTIONS API PACKAGES

import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [url, model, folder, instructions, api, packages] = process.argv.slice(2);
const require = createRequire(`${packages}/`);
const load = async (name) => import(pathToFileURL(require.resolve(name)).href);

const { stepCountIs, streamText, tool } = await load("ai");
const { createAnthropic } = await load("@ai-sdk/anthropic");
const { createOpenAI } = await load("@ai-sdk/openai");
const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");
const { z } = await load("zod");

const options = { baseURL: `${url}/v1`, apiKey: process.env.NODE_KEY };
const models = {
  chat: () => createOpenAI(options).chat(model),
  compatible: () => createOpenAICompatible({ ...options, name: "node", includeUsage: true })(model),
  messages: () => createAnthropic(options)(model),
  responses: () => createOpenAI(options).responses(model),
  stored: () => createOpenAI(options).responses(model),
};
const path = z.object({ path: z.string() });
const answer = streamText({
  model: models[api](),
  system: readFileSync(instructions, "utf8"),
  prompt: `Which word does the file in ${folder} hold? List the folder and read the file.`,
  tools: {
    list_folder: tool({
      description: "List the names of the files in a folder.",
      inputSchema: path,
      execute: async ({ path }) => readdirSync(path),
    }),
    read_file: tool({
      description: "Read a file.",
      inputSchema: path,
      execute: async ({ path }) => readFileSync(path, "utf8"),
    }),
  },
  // By default, it refers to the answers that the node keeps, if the node keeps any.
  providerOptions: { openai: { store: api === "stored" } },
  stopWhen: stepCountIs(5),
  maxRetries: 0,
  onError: ({ error }) => {
    console.error(error);
    process.exitCode = 1;
  },
});
console.log(await answer.text);
