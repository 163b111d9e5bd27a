// Recognises clips with transformers.js, which is looked for from the current folder. Its arguments are the folder of a
// model, "fp32" or "q8", and a number of threads. Clips are files of samples as float32. Each line that it is given is a
// request in JSON, and each gives a line:
//   {"text": FILE}                     {"found": what the pipeline writes}
//   {"logits": [FILE, ...], "into": X} {"found": the shape of the logits of one padded batch, which X then holds}
// or {"error": why not}.
const fs = require("fs");
const path = require("path");
console.log = console.error; // answers alone go to standard output

async function loaded(folder, dtype, threads) {
  const { pipeline, env, Tensor } = require(require.resolve("@huggingface/transformers", { paths: [process.cwd()] }));
  env.allowRemoteModels = false;
  env.localModelPath = path.dirname(folder);
  const session_options = { intraOpNumThreads: Number(threads), interOpNumThreads: 1 };
  const options = { dtype, session_options };
  return { Tensor, recognise: await pipeline("automatic-speech-recognition", path.basename(folder), options) };
}

function samples(file) {
  return new Float32Array(new Uint8Array(fs.readFileSync(file)).buffer);
}

async function logits({ Tensor, recognise }, files, into) {
  const rows = [];
  for (const file of files) rows.push((await recognise.processor(samples(file))).input_values.data);
  const longest = Math.max(...rows.map((row) => row.length));
  const values = new Float32Array(rows.length * longest);
  const mask = new BigInt64Array(rows.length * longest);
  rows.forEach((row, number) => {
    values.set(row, number * longest);
    mask.fill(1n, number * longest, number * longest + row.length);
  });
  const dims = [rows.length, longest];
  const inputs = { input_values: new Tensor("float32", values, dims), attention_mask: new Tensor("int64", mask, dims) };
  const found = (await recognise.model(inputs)).logits;
  fs.writeFileSync(into, Buffer.from(found.data.buffer, found.data.byteOffset, found.data.byteLength));
  return found.dims;
}

async function main() {
  const model = loaded(...process.argv.slice(1));
  model.catch(() => {}); // told in answer to the first request
  for await (const line of require("readline").createInterface({ input: process.stdin })) {
    let answer;
    try {
      const request = JSON.parse(line);
      if (request.text) answer = { found: (await (await model).recognise(samples(request.text))).text };
      else answer = { found: await logits(await model, request.logits, request.into) };
    } catch (error) {
      answer = { error: String((error && error.message) || error).split("\n")[0] };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
  }
}

main();
