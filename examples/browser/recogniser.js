// A model for CTC that `wav2vec2 export --to transformers.js` wrote, and words with times out of what it computes.
import { AutoModelForCTC, AutoProcessor, env } from "@huggingface/transformers";

const MODELS = "models/";

env.allowRemoteModels = false;
env.allowLocalModels = true;
env.localModelPath = MODELS;
env.backends.onnx.wasm.wasmPaths = new URL("./node_modules/onnxruntime-web/dist/", import.meta.url).href;

// Load models/NAME; `dtype` is "fp32", or "q8" for the file in 8 bits.
export async function loadRecogniser(name, dtype) {
  const [model, processor, tokenizer, config] = await Promise.all([
    AutoModelForCTC.from_pretrained(name, { dtype, device: "wasm" }),
    AutoProcessor.from_pretrained(name),
    json(`${MODELS}${name}/tokenizer.json`),
    json(`${MODELS}${name}/config.json`),
  ]);
  const tokens = [];
  for (const [token, id] of Object.entries(tokenizer.model.vocab)) tokens[id] = token;
  const samplingRate = processor.feature_extractor.config.sampling_rate;
  const headStride = config.ctc_head === "recurrent" ? (config.ctc_head_stride ?? 2) : 1;
  const secondsPerFrame = (config.conv_stride.reduce((a, b) => a * b, 1) * headStride) / samplingRate;

  // Samples (a Float32Array, one channel, at `samplingRate`) -> [{ word, start, end }], times in seconds.
  async function recognise(samples) {
    const { logits } = await model(await processor(samples));
    return spelled(bestPath(logits), tokens, tokenizer.decoder, secondsPerFrame);
  }
  return { recognise, samplingRate };
}

async function json(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: ${response.status} ${response.statusText}`);
  return response.json();
}

// The id of the best token of each frame of logits (1, T, V).
function bestPath({ data, dims: [, frames, size] }) {
  const path = [];
  for (let frame = 0; frame < frames; frame++) {
    let best = 0;
    for (let id = 1; id < size; id++) if (data[frame * size + id] > data[frame * size + best]) best = id;
    path.push(best);
  }
  return path;
}

// The words of a CTC path: repeats are one token, blanks none; a delimiter, alone or before a token, begins a word.
function spelled(path, tokens, { pad_token: blank, word_delimiter_token: delimiter }, secondsPerFrame) {
  const words = [];
  let inside = false;
  for (let from = 0, to; from < path.length; from = to) {
    for (to = from + 1; to < path.length && path[to] === path[from]; ) to++;
    let text = tokens[path[from]];
    if (text === blank) continue;
    if (text.startsWith(delimiter)) {
      inside = false;
      text = text.slice(delimiter.length);
    }
    if (!text) continue;
    if (!inside) words.push({ word: "", start: from * secondsPerFrame, end: 0 });
    const last = words[words.length - 1];
    last.word += text;
    last.end = to * secondsPerFrame;
    inside = true;
  }
  return words;
}
