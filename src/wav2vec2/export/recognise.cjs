// Recognises clips with transformers.js, which is looked for from the current folder:
//   node recognise.cjs LISTING
// LISTING is JSON: folder (of the model), dtype ("fp32" or "q8"), files (samples as float32). Prints the texts as JSON.
const fs = require("fs");
const path = require("path");

async function main() {
  const { folder, dtype, files } = JSON.parse(fs.readFileSync(process.argv[2], "utf-8"));
  const { pipeline, env } = require(require.resolve("@huggingface/transformers", { paths: [process.cwd()] }));
  env.allowRemoteModels = false;
  env.localModelPath = path.dirname(folder);
  const recognise = await pipeline("automatic-speech-recognition", path.basename(folder), { dtype });
  const texts = [];
  for (const file of files) {
    const bytes = fs.readFileSync(file);
    const samples = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
    texts.push((await recognise(samples)).text);
  }
  console.log(JSON.stringify(texts));
}

main().catch((error) => {
  console.error(String(error && error.message ? error.message : error));
  process.exit(1);
});
