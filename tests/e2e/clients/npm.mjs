// The openai npm package against a base URL: what came of each way of asking, as one JSON object.
import OpenAI from "openai";

const [baseURL, bias] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0, timeout: 60_000 });
const messages = [{ role: "user", content: "What is 23 + 45?" }];
const parameters = { type: "object", properties: { sign: { enum: ["plus", "minus"] } }, required: ["sign"], additionalProperties: false };
const tools = [{ type: "function", function: { name: "calculate", parameters, strict: true } }];
const toolChoice = { type: "function", function: { name: "calculate" } };
const yesOrNo = { type: "json_schema", json_schema: { name: "yes", schema: { enum: ["yes", "no"] } } };

async function whole() {
  const answer = await client.chat.completions.create({ model: "auto", messages });
  return { text: answer.choices[0].message.content, tokens: answer.usage.completion_tokens, decision: answer.rheostat.decision_id };
}

async function streamed() {
  const stream = await client.chat.completions.create({ model: "auto", messages, stream: true });
  let text = "", tokens = 0;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    tokens = chunk.usage?.completion_tokens ?? tokens;
  }
  return { text, tokens };
}

async function thinking() {
  const rheostat = { action: "pocket/self_consistency(k=4)@768" };
  const stream = client.chat.completions.stream({ model: "auto", messages, rheostat });
  return { text: await stream.finalContent() };
}

async function tool() {
  const form = { tools, tool_choice: toolChoice, logit_bias: JSON.parse(bias), max_tokens: 128 };
  const answer = await client.chat.completions.create({ model: "pocket", messages, ...form });
  const [call] = answer.choices[0].message.tool_calls;
  return { name: call.function.name, given: call.function.arguments };
}

async function structured() {
  const answer = await client.chat.completions.create({ model: "auto", messages, response_format: yesOrNo, max_tokens: 16 });
  return { text: answer.choices[0].message.content };
}

async function responses() {
  const answer = await client.responses.create({ model: "auto", input: messages[0].content });
  let text = "";
  for await (const event of await client.responses.create({ model: "auto", input: messages[0].content, stream: true })) {
    if (event.type === "response.output_text.delta") text += event.delta;
  }
  return { text: answer.output_text, streamed: text };
}

async function refused() {
  try {
    await client.chat.completions.create({ model: "auto", messages, temperature: 9 });
  } catch (error) {
    return { kind: error.constructor.name, status: error.status, param: error.param };
  }
}

const told = {};
for (const way of [whole, streamed, thinking, tool, structured, responses, refused]) told[way.name] = await way();
console.log(JSON.stringify(told));
