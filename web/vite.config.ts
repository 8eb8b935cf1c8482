import { defineConfig } from 'vitest/config';

// `npm run dev` serves the page alone; the server it talks to runs on its default port.
const server = 'http://localhost:7880';

export default defineConfig({
  server: {
    proxy: {
      '/dev': server,
      '/rtc': { target: server, ws: true },
    },
  },
  build: {
    target: 'es2022',
    // livekit-client alone is larger than the default limit; it loads after the first screen.
    chunkSizeWarningLimit: 900,
  },
  test: {
    environment: 'node',
    include: ['src/**/*.test.ts'],
  },
});
