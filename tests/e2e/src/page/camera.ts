// Something to publish, where there is no camera.

/** A picture that moves and a hum, or what the microphone hears. */
export async function camera(microphone = false): Promise<MediaStream> {
  const canvas = document.createElement("canvas");
  canvas.width = 640;
  canvas.height = 360;
  document.body.append(canvas);
  const brush = canvas.getContext("2d");
  if (brush === null) throw new Error("no canvas");
  let frame = 0;
  setInterval(() => {
    frame += 1;
    brush.fillStyle = "#234";
    brush.fillRect(0, 0, canvas.width, canvas.height);
    brush.fillStyle = "#fc3";
    brush.fillRect((frame * 7) % canvas.width, 60 + ((frame * 3) % 200), 60, 60);
  }, 33);
  const video = canvas.captureStream(30).getTracks();
  if (microphone) {
    return new MediaStream([...video, ...(await navigator.mediaDevices.getUserMedia({ audio: true })).getTracks()]);
  }
  const sound = new AudioContext({ sampleRate: 48000 });
  await sound.resume();
  const hum = new OscillatorNode(sound, { frequency: 330 });
  const gain = new GainNode(sound, { gain: 0.2 });
  const out = new MediaStreamAudioDestinationNode(sound);
  hum.connect(gain).connect(out);
  hum.start();
  return new MediaStream([...video, ...out.stream.getTracks()]);
}
