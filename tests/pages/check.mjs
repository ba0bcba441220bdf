// Opens pages at two widths and on paper; prints as JSON what axe, the console and the layout say.
//
//     node check.mjs OUT FILE_OR_URL ...
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { join, basename } from 'node:path'

const require = createRequire(join(process.env.KPM_PAGES_MODULES, 'package.json'))
const puppeteer = require('puppeteer-core')
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')
const [out, ...places] = process.argv.slice(2)
const WIDTHS = [390, 1280]

const browser = await puppeteer.launch({
  executablePath: process.env.KPM_CHROMIUM || '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  headless: true,
})
const found = []
for (const place of places) {
  for (const width of WIDTHS) {
    const page = await browser.newPage()
    await page.setViewport({ width, height: 900 })
    const said = []
    page.on('console', (message) => {
      if (['error', 'warn'].includes(message.type())) said.push(message.text())
    })
    page.on('pageerror', (failure) => said.push(String(failure)))
    const asked = []
    page.on('request', (request) => asked.push(request.url()))
    const url = place.includes('://') ? place : `file://${place}`
    await page.goto(url, { waitUntil: 'domcontentloaded' })
    await new Promise((done) => setTimeout(done, place.includes('://') ? 700 : 0))
    await page.evaluate(axe)
    const judged = await page.evaluate(async () => (await window.axe.run()).violations)
    const over = await page.evaluate(
      () => document.documentElement.scrollWidth - window.innerWidth,
    )
    const name = place.includes('://')
      ? `ui-${new URL(url).pathname.split('/').slice(2).join('-') || 'cluster'}`
      : basename(place, '.html')
    await page.screenshot({ path: join(out, `${name}-${width}.png`), fullPage: width > 1000 })
    if (width === WIDTHS[1]) {
      await page.pdf({ path: join(out, `${name}.pdf`), format: 'A4' })
    }
    found.push({
      name,
      width,
      over,
      said,
      outside: asked.filter((item) => item !== url && !item.startsWith('data:')),
      violations: judged.map((item) => `${item.id}: ${item.nodes.length} ${item.nodes[0].html}`),
    })
    await page.close()
  }
}
await browser.close()
console.log(JSON.stringify(found))
