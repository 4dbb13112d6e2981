// Asks llama.cpp, as node-llama-cpp brings it, for ids and greedy tokens:
//   node llama_cpp.mjs FOLDER_WITH_NODE_MODULES MODEL.gguf TEXTS.json COUNT ANSWERS.json
import fs from "node:fs";
import path from "node:path";
import {pathToFileURL} from "node:url";

const [folder, file, texts, count, output] = process.argv.slice(2);
const home = path.join(path.resolve(folder), "node_modules", "node-llama-cpp", "dist", "index.js");
const {getLlama} = await import(pathToFileURL(home));
const llama = await getLlama({gpu: false, build: "never", progressLogs: false, logLevel: "error", maxThreads: 1});
const model = await llama.loadModel({modelPath: file});
const answers = [];
for (const text of JSON.parse(fs.readFileSync(texts, "utf8"))) {
    const ids = model.tokenize(text, false);
    const context = await model.createContext({contextSize: 64, threads: 1});
    const greedy = [];
    for await (const token of context.getSequence().evaluate(ids.slice(0, 12), {temperature: 0, yieldEogToken: true})) {
        greedy.push(token);
        if (greedy.length >= Number(count))
            break;
    }
    answers.push({ids, greedy});
    await context.dispose();
}
fs.writeFileSync(output, JSON.stringify(answers));
process.exit(0);
