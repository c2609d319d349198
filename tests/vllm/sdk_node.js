// Asks for a stream with OpenAI's SDK for Node, which is in FOLDER/node_modules, and says what it hands to its caller:
// sdk_node.js FOLDER BASE_URL, with the request on the standard input, as {"chat": bool, "body": {...}}.
const [folder, baseURL] = process.argv.slice(2);
const { OpenAI } = require("module").createRequire(folder + "/")("openai");
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });

async function ask({ chat, body }) {
  const stream = await (chat ? client.chat.completions : client.completions).create(body);
  let text = "", usage = null;
  const finish = [], ids = new Set();
  for await (const chunk of stream) {
    ids.add([chunk.id, chunk.created, chunk.model].join(" "));
    usage = chunk.usage ?? usage;
    for (const choice of chunk.choices) {
      text += (chat ? choice.delta.content : choice.text) ?? "";
      if (choice.finish_reason) finish.push(choice.finish_reason);
    }
  }
  const counts = usage && [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens];
  console.log(JSON.stringify({ text, finish, usage: counts, ids: ids.size }));
}

ask(JSON.parse(require("fs").readFileSync(0, "utf8"))).catch((error) => {
  console.error(error);
  process.exit(1);
});
