// Asks llama.cpp, as node-llama-cpp brings it, for the ids of texts; no weights are read:
//   node llama_cpp_ids.mjs FOLDER_WITH_NODE_MODULES MODELS.json ANSWERS.json
// MODELS.json maps a name to {file, texts}. The answer for a name is a list of ids for each text.
import fs from "node:fs";
import path from "node:path";
import {pathToFileURL} from "node:url";

const [folder, models, output] = process.argv.slice(2);
const home = path.join(path.resolve(folder), "node_modules", "node-llama-cpp", "dist", "index.js");
const {getLlama} = await import(pathToFileURL(home));
const llama = await getLlama({gpu: false, build: "never", progressLogs: false, logLevel: "disabled", maxThreads: 1});
const answers = {};
for (const [name, {file, texts}] of Object.entries(JSON.parse(fs.readFileSync(models, "utf8")))) {
    const model = await llama.loadModel({modelPath: file, vocabOnly: true});
    answers[name] = texts.map((text) => Array.from(model.tokenize(text, false)));
    await model.dispose();
}
fs.writeFileSync(output, JSON.stringify(answers));
process.exit(0);
