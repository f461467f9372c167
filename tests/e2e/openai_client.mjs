// The official client for Node against a router: ROUTER_URL (with /v1), ROUTER_KEY and MODEL say which.
// Prints one JSON object with what it saw; tests/e2e/test_other_clients.py judges it.
import OpenAI, { BadRequestError } from "openai";

const client = new OpenAI({ baseURL: process.env.ROUTER_URL, apiKey: process.env.ROUTER_KEY, maxRetries: 0 });
const model = process.env.MODEL;
const messages = [{ role: "user", content: "What is the capital of Japan?" }];
const exact = { temperature: 0, seed: 7 };

async function chat() {
  const { data, response } = await client.chat.completions
    .create({ model, messages, max_tokens: 40, ...exact })
    .withResponse();
  return {
    id: data.id,
    text: data.choices[0].message.content,
    usage: data.usage,
    receipt: response.headers.get("x-tristrata-receipt"),
  };
}

async function streamedChat() {
  const options = { stream: true, stream_options: { include_usage: true } };
  const stream = await client.chat.completions.create({ model, messages, max_tokens: 40, ...exact, ...options });
  let text = "";
  let usage = null;
  let finishReason = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    finishReason = chunk.choices[0]?.finish_reason ?? finishReason;
    usage = chunk.usage ?? usage;
  }
  return { text, usage, finishReason };
}

async function completion() {
  const answer = await client.completions.create({ model, prompt: "The capital of Japan is", max_tokens: 3, ...exact });
  return { object: answer.object, text: answer.choices[0].text };
}

async function response() {
  const options = { model, temperature: 0, max_output_tokens: 40 };
  const whole = await client.responses.create({ ...options, input: messages[0].content });
  const kept = await client.responses.retrieve(whole.id);
  const types = [];
  let last = null;
  const stream = await client.responses.create({ ...options, input: messages[0].content, stream: true });
  for await (const event of stream) {
    types.push(event.type);
    last = event;
  }
  return { text: whole.output_text, kept: kept.output_text, types, status: last.response.status };
}

async function refusal() {
  try {
    await client.chat.completions.create({ model, messages, temperature: 3 });
  } catch (error) {
    return { isBadRequest: error instanceof BadRequestError, param: error.param, code: error.code };
  }
  return null;
}

async function models() {
  const names = [];
  for await (const each of client.models.list()) names.push(each.id);
  return names;
}

const seen = {};
for (const step of [models, chat, streamedChat, completion, response, refusal]) seen[step.name] = await step();
console.log(JSON.stringify(seen));
