// One call with the OpenAI SDK for Node: node images.mjs FOLDER_OF_SDK BASE_URL KEY '{"maxRetries": 2, "body": {...}}'
// Prints what the caller saw as one line of JSON.
import { pathToFileURL } from "node:url";
import path from "node:path";

const [folder, baseURL, apiKey, text] = process.argv.slice(2);
const sdk = pathToFileURL(path.resolve(folder, "node_modules/openai/index.mjs"));
const { default: OpenAI } = await import(sdk);
const { body, ...options } = JSON.parse(text);

let attempts = 0;
const counting = (...args) => {
    attempts++;
    return fetch(...args);
};
const client = new OpenAI({ baseURL, apiKey, fetch: counting, ...options });
const seen = { node: process.version };
try {
    const { data, response } = await client.images.generate(body).withResponse();
    seen.ok = true;
    seen.data = data;
    seen.headers = Object.fromEntries(response.headers);
} catch (error) {
    seen.ok = false;
    seen.name = error.constructor.name;
    seen.status = error.status ?? null;
    seen.code = error.code ?? null;
    seen.param = error.param ?? null;
    seen.type = error.type ?? null;
    seen.message = error.message;
    seen.requestID = error.requestID ?? null;
}
seen.attempts = attempts;
console.log(JSON.stringify(seen));
