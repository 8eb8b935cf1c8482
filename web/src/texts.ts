/** Every text of the page. Another language is one more file of this shape. */

const counted = (one: string, many: string) => (n: number) => `${n} ${n === 1 ? one : many}`;

export const texts = {
  product: 'Sluice',
  loading: 'Loading…',
  close: 'Close',
  pageBroke: {
    title: 'The page ran into a fault',
    help: 'Reload it to join again. If it happens again, please report it with what you did last.',
    reload: 'Reload',
  },

  start: {
    title: 'Start or join a call',
    room: 'Room name',
    roomHelp: 'Everyone who enters the same name meets in the same room.',
    suggest: 'Suggest another name',
    name: 'Your name',
    join: 'Join',
    recent: 'Recent rooms',
    roomMissing: 'Enter a room name.',
    nameMissing: 'Enter your name, so that others know who you are.',
  },

  ready: {
    title: (room: string) => `Ready to join ${room}?`,
    asName: (name: string) => `Your link lets you join as ${name}.`,
    join: 'Join now',
    joining: 'Joining…',
    back: 'Another room',
    preview: 'Camera preview',
    cameraOff: 'Your camera is off',
    cameraStarting: 'Starting your camera…',
    level: 'Microphone level',
    levelOff: 'Your microphone is off',
    devices: 'Devices',
    withoutDevices: 'You can join without it and hear and see everybody else.',
  },

  devices: {
    camera: 'Camera',
    microphone: 'Microphone',
    speaker: 'Speaker',
    none: 'None found',
    notAllowed: 'Not allowed yet',
    systemDefault: 'System default',
    numbered: (kind: string, n: number) => `${kind} ${n}`,
    testSpeaker: 'Test speaker',
    followsSystem: 'Sound plays on the speaker chosen in your system settings.',
  },

  media: {
    insecure: {
      title: 'No camera or microphone on this address',
      help: 'Browsers give camera and microphone to https pages and to localhost only. Ask whoever runs the server to start it with “sluice up --tls self-signed”, then open this page with https. You can still join to watch and listen.',
    },
    unsupported: {
      title: 'This browser cannot use camera or microphone',
      help: 'Use a current version of Chrome, Edge, Firefox or Safari. You can still join to watch and listen.',
    },
    denied: (device: string) => ({
      title: `The browser does not let this page use your ${device}`,
      help: `Click the ${device} or lock sign next to the address, allow the ${device}, then press Try again.`,
    }),
    deniedBySystem: (device: string) => ({
      title: `Your computer does not let the browser use the ${device}`,
      help: `Allow the browser to use the ${device} in the privacy settings of your system, then press Try again.`,
    }),
    missing: (device: string) => ({
      title: `No ${device} found`,
      help: `Connect your ${device}, then press Try again.`,
    }),
    busy: (device: string) => ({
      title: `Your ${device} is in use`,
      help: `Another program seems to hold the ${device}. Close it and press Try again.`,
    }),
    failed: (device: string) => ({
      title: `Your ${device} did not start`,
      help: `Unplug and reconnect the ${device} or choose another one, then press Try again.`,
    }),
    notSent: (device: string) => ({
      title: `Your ${device} does not reach the others`,
      help: `The server did not take it. Turn the ${device} off and on again.`,
    }),
    shareFailed: {
      title: 'Your screen could not be shared',
      help: 'Allow screen recording for the browser in the privacy settings of your system, or choose another window.',
    },
    retry: 'Try again',
    cameraWord: 'camera',
    microphoneWord: 'microphone',
    bothWord: 'camera and microphone',
  },

  controls: {
    mute: 'Mute microphone',
    unmute: 'Unmute microphone',
    cameraOff: 'Turn camera off',
    cameraOn: 'Turn camera on',
    share: 'Share screen',
    stopShare: 'Stop sharing',
    openChat: 'Open chat',
    closeChat: 'Close chat',
    unread: (n: number) => `${n} unread`,
    openPeople: 'Show people',
    closePeople: 'Hide people',
    speakerView: 'Speaker view',
    gridView: 'Grid view',
    statistics: 'Statistics',
    settings: 'Settings',
    shortcuts: 'Keyboard shortcuts',
    leave: 'Leave',
    nextPage: 'Next page',
    previousPage: 'Previous page',
    page: (n: number, of: number) => `Page ${n} of ${of}`,
    bar: 'Call controls',
    withKey: (label: string, key: string) => `${label} (${key})`,
  },

  tile: {
    you: (name: string) => `${name} (you)`,
    screenOf: (name: string) => `Screen of ${name}`,
    muted: 'Microphone is off',
    pin: (name: string) => `Pin ${name}`,
    unpin: (name: string) => `Unpin ${name}`,
    lost: 'Connection lost, waiting…',
    paused: 'Video paused: slow network',
    quality: {
      excellent: 'Connection is good',
      good: 'Connection is fair',
      poor: 'Connection is poor',
      lost: 'Connection is lost',
    },
  },

  call: {
    stage: 'Stage',
    strip: 'Other people',
    alone: 'Nobody else is here yet',
    aloneHelp: 'Send the link to the people you want to meet.',
    copyLink: 'Copy link',
    copied: 'Copied',
    reconnecting: 'Reconnecting…',
    back: 'Back',
    soundBlocked: 'The browser holds the sound back until you click.',
    soundOn: 'Turn sound on',
    sharing: 'You are sharing your screen.',
    mutedByOthers: 'Your microphone was muted by the host or the server.',
    slowNetwork: 'Your network is slow: video is reduced.',
    watchOnly: 'You can watch and listen. Your link does not allow you to speak or show video.',
    dismiss: 'Dismiss',
  },

  chat: {
    title: 'Chat',
    empty: 'No messages yet. Messages are seen by everybody who is in the call.',
    message: 'Message',
    send: 'Send',
    failed: 'The message was not sent. Check your connection and send it again.',
    you: 'You',
    log: 'Messages',
  },

  people: {
    title: 'People',
    count: counted('person', 'people'),
    search: 'Search people',
    none: 'Nobody of that name is here.',
    cameraOff: 'Camera is off',
    sharing: 'Shares the screen',
  },

  shortcuts: {
    title: 'Keyboard shortcuts',
    microphone: 'Microphone on or off',
    hold: 'Talk while held',
    camera: 'Camera on or off',
    share: 'Share the screen or stop',
    chat: 'Chat',
    people: 'People',
    view: 'Grid or speaker view',
    statistics: 'Statistics',
    list: 'This list',
    space: 'Space',
  },

  stats: {
    copy: 'Copy as text',
    resolution: 'Resolution',
    fps: 'Frames per second',
    bitrate: 'Bitrate',
    layer: 'Layer',
    codec: 'Codec',
    loss: 'Loss',
    jitter: 'Jitter',
    rtt: 'Round trip',
    waiting: 'No video is running.',
    layers: { f: 'full', h: 'half', q: 'quarter' },
  },

  duration: {
    hours: counted('hour', 'hours'),
    minutes: counted('minute', 'minutes'),
    seconds: counted('second', 'seconds'),
  },

  left: {
    title: 'You left the call',
    duration: (text: string) => `You were in the call for ${text}.`,
    rejoin: 'Rejoin',
    home: 'Back to the start',
  },

  ended: {
    replaced: {
      title: 'You joined from somewhere else',
      help: 'The same person entered this room in another tab or on another device, so this one was closed. Rejoin to take the call back here.',
    },
    removed: {
      title: 'You were removed from the call',
      help: 'The host or an administrator took you out of the room. Ask them before you rejoin.',
    },
    closed: {
      title: 'The room was closed',
      help: 'The call has ended for everybody. Rejoin to open the room again.',
    },
    shutdown: {
      title: 'The server is shutting down',
      help: 'Wait a moment, then rejoin.',
    },
    gone: {
      title: 'The connection to the server was lost',
      help: 'Reconnecting did not work. Check your network, then rejoin. If others are out too, the server is down.',
    },
    joinFailed: {
      title: 'Joining did not work',
      help: 'The server could not let you in. Wait a moment and try again.',
    },
  },

  problems: {
    unreachable: {
      title: 'The server does not answer',
      help: 'Check your network and that the server is running, then try again.',
    },
    notDevelopment: {
      title: 'This server is not in development mode: open the page with a link that carries a token',
      help: 'Ask the person who invited you for such a link. Its address ends in “#token=” and a long text.',
    },
    tokenRefusedHere: {
      title: 'The server did not let you in with this name or room',
      help: 'Change the name or the room and try again.',
    },
    expired: {
      title: 'Your link has expired',
      help: 'Ask the person who invited you for a new one.',
    },
    tokenInvalid: {
      title: 'The server did not accept your link',
      help: 'It may be incomplete, meant for another room or made for another server. Ask the person who invited you for a new one.',
    },
    roomMissing: {
      title: 'This room does not exist',
      help: 'Check the link, or ask the host to open the room.',
    },
    media: {
      title: 'The server was reached, but audio and video could not connect',
      help: 'A firewall may block the media ports. Try another network, or ask whoever runs the server to check that its media ports are open.',
    },
    browser: {
      title: 'This browser cannot take part in calls',
      help: 'Use a current version of Chrome, Edge, Firefox or Safari, and switch off extensions that block WebRTC.',
    },
    serverFault: {
      title: 'The server ran into a fault',
      help: 'Wait a moment and try again. If it happens again, tell whoever runs the server.',
    },
    unknown: {
      title: 'Something went wrong',
      help: 'Try again. If it happens again, reload the page.',
    },
    serverSaid: (text: string) => `The server said: ${text}`,
  },
};
