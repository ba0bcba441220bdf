"""Pages in a real browser: Debian's Chromium without a window, led by puppeteer, judged by axe."""
