// Sound from the microphone as packets of 16 bit samples, a tenth of a second each. Runs in the thread of the sound.

class Packets extends AudioWorkletProcessor {
  constructor() {
    super();
    this.size = Math.round(sampleRate / 10);
    this.packet = new Int16Array(this.size);
    this.filled = 0;
  }

  process(inputs) {
    const [channels] = inputs;
    if (channels.length === 0) return true;
    for (let place = 0; place < channels[0].length; place += 1) {
      let sum = 0;
      for (const channel of channels) sum += channel[place];
      const sample = Math.max(-1, Math.min(1, sum / channels.length));
      this.packet[this.filled] = Math.round(sample * 32767);
      this.filled += 1;
      if (this.filled === this.size) {
        this.port.postMessage(this.packet.buffer, [this.packet.buffer]);
        this.packet = new Int16Array(this.size);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("packets", Packets);
