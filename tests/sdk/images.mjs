// One call with the OpenAI SDK for Node: node images.mjs FOLDER_OF_SDK BASE_URL KEY '{"method": "edit", "body": {...}, ...}'
//   method    generate, edit, createVariation; models.list, models.retrieve (with id)
//   image     paths of files; list: send an array even of one; mask: a path
//   source    "stream" (createReadStream), "buffer" (toFile of the bytes), "bytes" (toFile without a type)
//   leave     with body.stream: abandon the stream after so many events
//   abort     abort the call after so many milliseconds
//   headers   of the call; maxRetries and other options go to the client
// Prints what the caller saw as one line of JSON.
import { File } from "node:buffer";
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

globalThis.File ??= File; // Node 18 has it, but not there; the SDK says to do so

const [folder, baseURL, apiKey, text] = process.argv.slice(2);
const sdk = pathToFileURL(path.resolve(folder, "node_modules/openai/index.mjs"));
const { default: OpenAI, toFile } = await import(sdk);
const { method = "generate", body = {}, image, mask, list, source = "buffer", leave, abort, headers, id, ...options } = JSON.parse(text);

// The SDK also fetches "data:," to learn whether it may send a FormData: no attempt.
let attempts = 0;
const counting = (...args) => {
    attempts += String(args[0]).startsWith("http") ? 1 : 0;
    return fetch(...args);
};
const client = new OpenAI({ baseURL, apiKey, fetch: counting, ...options });

const types = { ".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp" };
const file = async (name) => {
    if (source === "stream") return fs.createReadStream(name);
    return toFile(fs.readFileSync(name), path.basename(name), source === "bytes" ? undefined : { type: types[path.extname(name)] });
};

if (image) {
    const files = await Promise.all(image.map(file));
    body.image = files.length > 1 || list ? files : files[0];
}
if (mask) body.mask = await file(mask);

const call = (request) => {
    const settings = { headers };
    if (abort !== undefined) {
        const controller = new AbortController();
        setTimeout(() => controller.abort(), abort);
        settings.signal = controller.signal;
    }
    if (method === "models.list") return client.models.list(settings);
    if (method === "models.retrieve") return client.models.retrieve(id, settings);
    return client.images[method](request, settings);
};

const seen = { node: process.version };
try {
    const { data, response } = await call(body).withResponse();
    seen.headers = Object.fromEntries(response.headers);
    if (body.stream) {
        seen.events = [];
        for await (const event of data) {
            seen.events.push(event);
            if (leave !== undefined && seen.events.length >= leave) break;
        }
    } else {
        seen.data = data;
    }
    seen.ok = true;
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
