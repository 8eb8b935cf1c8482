// A camera picture drawn for each person, so that screenshots look like a call and not like a test pattern.

const people = {
  Ann: { wall: ['#d8c3a5', '#a98467'], skin: '#e8b48f', hair: '#3b2a20', shirt: '#2a6f77', style: 'long', room: 'shelf' },
  Bob: { wall: ['#8fb8c9', '#4d7c8f'], skin: '#c98d63', hair: '#1d1b1a', shirt: '#e3e1dc', style: 'short', room: 'window' },
  Cyn: { wall: ['#b9c9a4', '#72875a'], skin: '#8a5a3b', hair: '#161213', shirt: '#e0a43b', style: 'curls', room: 'plant' },
  Dev: { wall: ['#4f5a73', '#2a3145'], skin: '#b97f55', hair: '#0f0f12', shirt: '#6d4a8c', style: 'short', room: 'lamp' },
  Eve: { wall: ['#e3bcae', '#b27f70'], skin: '#f0c6a5', hair: '#a4572a', shirt: '#394a6d', style: 'long', room: 'plant' },
};

/** Makes `name` appear at the camera of this page. Sound stays that of the fake microphone. */
export const appear = (person) => person.page.addInitScript(camera, people[person.name]);

// Runs in the page.
function camera({ wall, skin, hair, shirt, style, room }) {
  const [width, height, fps] = [1280, 720, 8];
  const original = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);

  const shade = (context, colour, [x, y, w, h], radius = 0) => {
    context.fillStyle = colour;
    context.beginPath();
    context.roundRect(x, y, w, h, radius);
    context.fill();
  };
  const oval = (context, colour, x, y, rx, ry = rx) => {
    context.fillStyle = colour;
    context.beginPath();
    context.ellipse(x, y, rx, ry, 0, 0, 2 * Math.PI);
    context.fill();
  };

  const rooms = {
    shelf(context) {
      shade(context, '#6b4a35', [60, 190, 330, 16]);
      shade(context, '#6b4a35', [60, 400, 330, 16]);
      const books = ['#8c2f2b', '#2f5d62', '#d9a441', '#5b4b7a', '#33658a', '#e0d7c6', '#7a8450'];
      for (const [row, y] of [[0, 190], [1, 400]]) {
        books.forEach((book, i) => shade(context, books[(i + 3 * row) % 7], [76 + i * 40, y - 96 - ((i * 37) % 40), 32, 96 + ((i * 37) % 40)], 4));
      }
    },
    window(context) {
      shade(context, '#f4f7f8', [820, 60, 380, 440], 8);
      const sky = context.createLinearGradient(0, 80, 0, 480);
      sky.addColorStop(0, '#9fd0ee');
      sky.addColorStop(1, '#e9f4ea');
      shade(context, sky, [840, 80, 164, 400]);
      shade(context, sky, [1016, 80, 164, 400]);
      oval(context, '#6f9b69', 920, 500, 84, 60);
      shade(context, '#f4f7f8', [800, 480, 420, 24], 4);
    },
    plant(context) {
      shade(context, '#b5643c', [1010, 520, 130, 200], 16);
      for (let i = 0; i < 9; i++) {
        context.save();
        context.translate(1075, 530);
        context.rotate((i - 4) * 0.28);
        oval(context, i % 2 ? '#3f6b45' : '#568a57', 0, -150, 26, 140);
        context.restore();
      }
      shade(context, '#f2ece2', [120, 110, 210, 270], 4);
      oval(context, '#d08c60', 225, 220, 60);
      shade(context, '#7d8f69', [150, 270, 150, 80], 40);
    },
    lamp(context) {
      const glow = context.createRadialGradient(1050, 260, 20, 1050, 260, 420);
      glow.addColorStop(0, 'rgb(255 214 140 / 75%)');
      glow.addColorStop(1, 'rgb(255 214 140 / 0%)');
      shade(context, glow, [500, 0, 780, 720]);
      shade(context, '#1d2230', [1042, 330, 14, 390]);
      shade(context, '#ffe2ad', [960, 190, 180, 140], 40);
      shade(context, '#394157', [90, 120, 300, 200], 8);
      shade(context, '#7c92b8', [106, 136, 268, 168], 4);
    },
  };

  const head = (context, sway, blink, talk) => {
    const [x, y] = [640 + 10 * sway, 330 + 4 * Math.abs(sway)];
    if (style === 'long') shade(context, hair, [x - 160, y - 170, 320, 430], [160, 160, 60, 60]);
    if (style === 'curls') {
      for (let i = 0; i < 14; i++) oval(context, hair, x + 165 * Math.cos(i * 0.45), y - 60 - 120 * Math.sin(i * 0.45) * (i % 2 ? 1 : 0.85), 74);
    }
    shade(context, shirt, [x - 280 - 5 * sway, y + 235, 560, 300], [170, 170, 0, 0]);
    shade(context, skin, [x - 55, y + 110, 110, 165], 50);
    oval(context, 'rgb(0 0 0 / 14%)', x, y + 165, 56, 40);
    oval(context, skin, x - 130, y + 10, 22, 34);
    oval(context, skin, x + 130, y + 10, 22, 34);
    oval(context, skin, x, y, 130, 165);
    context.fillStyle = hair;
    context.beginPath();
    context.ellipse(x, y - 52, 137, 130, 0, Math.PI * 0.98, Math.PI * 2.02);
    context.quadraticCurveTo(x + 60, y - 120, x - 20, y - 96);
    context.quadraticCurveTo(x - 100, y - 84, x - 137, y - 45);
    context.fill();
    for (const side of [-1, 1]) {
      shade(context, hair, [x + side * 52 - 28, y - 40, 56, 9], 5);
      oval(context, '#fdfbf8', x + side * 52, y - 4, 21, blink ? 2 : 13);
      if (!blink) oval(context, '#2c2320', x + side * 52 + 3 * sway, y - 4, 10, 11);
      oval(context, 'rgb(220 80 60 / 12%)', x + side * 78, y + 52, 34, 24);
    }
    oval(context, 'rgb(0 0 0 / 12%)', x, y + 40, 16, 11);
    oval(context, '#8e3b36', x, y + 92, 44, 10 + 12 * talk);
    shade(context, skin, [x - 46, y + 70, 92, 20 - 4 * talk], 10);
  };

  const open = () => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 0.75 * width, height: 0.75 * height });
    const context = canvas.getContext('2d');
    context.scale(0.75, 0.75);
    let step = 0;
    const draw = () => {
      const time = step++ / fps;
      const light = context.createLinearGradient(0, 0, width, height);
      light.addColorStop(0, wall[0]);
      light.addColorStop(1, wall[1]);
      shade(context, light, [0, 0, width, height]);
      rooms[room](context);
      head(context, Math.sin(time * 1.3), step % 29 === 0, Math.abs(Math.sin(time * 5)) * (Math.sin(time) > 0 ? 1 : 0.1));
      const dim = context.createRadialGradient(640, 320, 300, 640, 360, 800);
      dim.addColorStop(0, 'rgb(0 0 0 / 0%)');
      dim.addColorStop(1, 'rgb(0 0 0 / 38%)');
      shade(context, dim, [0, 0, width, height]);
    };
    draw();
    const timer = setInterval(draw, 1000 / fps);
    const [track] = canvas.captureStream(fps).getVideoTracks();
    const stop = track.stop.bind(track);
    track.stop = () => (clearInterval(timer), stop());
    return track;
  };

  navigator.mediaDevices.getUserMedia = async (constraints) => {
    const tracks = constraints.audio ? (await original({ audio: constraints.audio })).getTracks() : [];
    return new MediaStream(constraints.video ? [...tracks, open()] : tracks);
  };

  // A slide instead of the browser's test pattern, with text small enough to judge sharpness by.
  navigator.mediaDevices.getDisplayMedia = async () => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 1600, height: 900 });
    const context = canvas.getContext('2d');
    const quarters = [38, 52, 47, 71];
    const draw = () => {
      shade(context, '#fbfaf7', [0, 0, 1600, 900]);
      shade(context, '#2a6f77', [0, 0, 24, 900]);
      context.fillStyle = '#1c2730';
      context.font = '600 64px system-ui, sans-serif';
      context.fillText('River levels, this year', 110, 140);
      context.font = '28px system-ui, sans-serif';
      ['The gates were opened eleven times', 'Highest level: 71 cm in December', 'New gauge at the mill since June'].forEach((line, i) => {
        oval(context, '#2a6f77', 122, 232 + i * 64, 8);
        context.fillStyle = '#1c2730';
        context.fillText(line, 150, 242 + i * 64);
      });
      quarters.forEach((level, i) => {
        shade(context, ['#9fc8cc', '#6fadb3', '#9fc8cc', '#2a6f77'][i], [860 + i * 160, 760 - level * 7, 112, level * 7], [8, 8, 0, 0]);
        context.fillStyle = '#1c2730';
        context.fillText(`Q${i + 1}`, 896 + i * 160, 806);
        context.fillText(`${level} cm`, 880 + i * 160, 744 - level * 7);
      });
      shade(context, '#1c2730', [840, 760, 640, 3]);
    };
    draw();
    const timer = setInterval(draw, 500);
    const stream = canvas.captureStream(2);
    const [track] = stream.getVideoTracks();
    const stop = track.stop.bind(track);
    track.stop = () => (clearInterval(timer), stop());
    return stream;
  };
}
