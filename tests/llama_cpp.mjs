// Asks llama.cpp, as node-llama-cpp brings it, about models:
//   node llama_cpp.mjs FOLDER_WITH_NODE_MODULES JOBS.json ANSWERS.json
// A job is {file, texts, compared, positions, count}. The answer for each text is its `ids`. The
// first `compared` texts also get the `logits` after each of their first `positions` ids, and `count`
// tokens that follow them greedily.
import fs from "node:fs";
import path from "node:path";
import {pathToFileURL} from "node:url";

const [folder, jobs, output] = process.argv.slice(2);
const home = path.join(path.resolve(folder), "node_modules", "node-llama-cpp", "dist", "index.js");
const {getLlama} = await import(pathToFileURL(home));
const llama = await getLlama({gpu: false, build: "never", progressLogs: false, logLevel: "error", maxThreads: 1});
// Keys and values in float32: the default, float16, would hide small differences.
const settings = {
    contextSize: 128, threads: 1, flashAttention: false,
    experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32"
};
const everything = {generateNext: {logits: true, options: {temperature: 1, topK: 0, topP: 1}}};
const answers = [];
for (const {file, texts, compared, positions, count} of JSON.parse(fs.readFileSync(jobs, "utf8"))) {
    const model = await llama.loadModel({modelPath: file});
    const found = [];
    for (const [number, text] of texts.entries()) {
        const ids = model.tokenize(text, false);
        const prompt = number < compared ? ids.slice(0, positions) : [];
        const logits = [], greedy = [];
        if (prompt.length > 0) {
            const context = await model.createContext(settings);
            const sequence = context.getSequence();
            for (const {next} of await sequence.controlledEvaluate(prompt.map((id) => [id, everything]))) {
                const row = [];
                for (const [id, value] of next.logits)
                    row[id] = value;
                logits.push(row);
            }
            await sequence.clearHistory();
            for await (const token of sequence.evaluate(prompt, {temperature: 0, yieldEogToken: true})) {
                greedy.push(token);
                if (greedy.length >= count)
                    break;
            }
            await context.dispose();
        }
        found.push({ids, logits, greedy});
    }
    answers.push(found);
    await model.dispose();
}
fs.writeFileSync(output, JSON.stringify(answers));
process.exit(0);
