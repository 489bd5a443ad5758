// From Sequin's webhook sink, in both of its modes, or a Pub/Sub push subscription, to sequin_apply.
//
// node webhook.mjs; needs the package pg. The libpq variables (PGHOST, PGDATABASE, PGUSER, …) say where the database is. PORT
// is the port; if TOKEN is set, Sequin has to send the header "Authorization: Bearer <TOKEN>". Put TLS in front of it.
import { timingSafeEqual } from 'node:crypto';
import http from 'node:http';
import { promisify } from 'node:util';
import zlib from 'node:zlib';
import pg from 'pg';

const { TOKEN, PORT = 8000 } = process.env;
const LARGEST = 64 << 20;
const gunzip = promisify(zlib.gunzip);
// Four calls at a time; sixteen wait; more are told to come again.
const pool = new pg.Pool({ max: 4, connectionTimeoutMillis: 20_000 });
// An idle connection was lost: the pool makes another one.
pool.on('error', (error) => console.error(error.message));

function allowed(given = '') {
  const [a, b] = [Buffer.from(given), Buffer.from(`Bearer ${TOKEN}`)];
  return !TOKEN || (a.length === b.length && timingSafeEqual(a, b));
}

async function apply(request) {
  if (!allowed(request.headers.authorization)) return [401, 'wrong token'];
  if (pool.waitingCount >= 16) return [503, 'too many calls'];
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    if ((length += chunk.length) > LARGEST) return [413, 'too large'];
    chunks.push(chunk);
  }
  let body = Buffer.concat(chunks);
  if (request.headers['content-encoding'] === 'gzip') body = await gunzip(body, { maxOutputLength: LARGEST });
  await pool.query('select sequin_apply($1)', [body.toString()]);
  return [200];
}

const server = http.createServer(async (request, response) => {
  const [status, text] = await apply(request).catch((error) => [500, error.message]);
  if (text) console.error(text);
  response.writeHead(status, status === 413 ? { connection: 'close' } : {}).end();
});

process.on('SIGTERM', () => {
  server.close(() => pool.end());
  server.closeIdleConnections();
});
server.listen(PORT);
