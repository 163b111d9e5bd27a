// The microphone, and the connection to the service: sound goes out, what is said comes back.

const PACKETS_BEHIND = 50; // seconds times ten that may wait for the network

export class NeedsKey extends Error {}

// Whether the service lets us in: a websocket that is refused does not say why.
async function knock(key) {
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const answer = await fetch("/v1/models", { headers });
  if (answer.status === 401) throw new NeedsKey("this service needs a key: it goes into the settings");
  if (!answer.ok) throw new Error(`the service answers ${answer.status}`);
}

export class Listening {
  // `told` is called with every answer, `ended` once with the reason, or with nothing if we ended it ourselves.
  constructor(key, told, ended) {
    this.key = key;
    this.told = told;
    this.ended = ended;
    this.over = false;
  }

  async start() {
    if (!navigator.mediaDevices) throw new Error("a browser gives the microphone to https and to localhost alone");
    await knock(this.key);
    const wanted = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true };
    this.sound = await navigator.mediaDevices.getUserMedia({ audio: wanted });
    this.context = new AudioContext();
    try {
      await this.context.audioWorklet.addModule("microphone.js");
      await this.connect();
    } catch (error) {
      this.release();
      throw error;
    }
    const packets = new AudioWorkletNode(this.context, "packets", { numberOfOutputs: 0 });
    packets.port.onmessage = ({ data }) => this.send(data);
    this.context.createMediaStreamSource(this.sound).connect(packets);
    await this.context.resume();
  }

  connect() {
    const place = new URL(`captions/live?rate=${this.context.sampleRate}`, `${location.origin}/`);
    place.protocol = place.protocol.replace("http", "ws");
    const protocols = this.key ? ["captions", `openai-insecure-api-key.${this.key}`] : ["captions"];
    this.socket = new WebSocket(place, protocols);
    this.socket.binaryType = "arraybuffer";
    return new Promise((open, refused) => {
      this.socket.onopen = open;
      this.socket.onmessage = ({ data }) => this.told(JSON.parse(data));
      this.socket.onclose = ({ reason }) => {
        refused(new Error("the service cannot be reached"));
        this.close(this.over ? "" : reason || "the connection was lost");
      };
    });
  }

  send(packet) {
    if (this.over || this.socket.readyState !== WebSocket.OPEN) return;
    if (this.socket.bufferedAmount > PACKETS_BEHIND * packet.byteLength) {
      this.close("the network, or the service, is slower than speech");
      return;
    }
    this.socket.send(packet);
  }

  // What was said until now still comes, then the end.
  stop() {
    this.over = true;
    this.release();
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send("end");
  }

  close(reason) {
    this.over = true;
    this.release();
    this.socket.onclose = null;
    this.socket.close();
    this.ended(reason);
  }

  release() {
    for (const track of this.sound.getTracks()) track.stop();
    if (this.context.state !== "closed") this.context.close();
  }
}
