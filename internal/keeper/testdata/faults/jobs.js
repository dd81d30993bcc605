// A server of jobs with a clock of its own. /tick?us=N moves the clock and does
// what is due; /spoil?us=N leaves a job that belongs to nobody: an exception
// that nobody catches when it is done. Usage: jobs.js PORT
'use strict';
const http = require('http');

let clock = 0;
let done = 0;
let jobs = [{ at: 1e6, user: { name: 'first' } }];

function tick(us) {
  clock += us;
  const due = jobs.filter((j) => j.at <= clock);
  jobs = jobs.filter((j) => j.at > clock);
  for (const j of due) {
    done += j.user.name.length;
    jobs.push({ at: clock + 1e6, user: { name: `after ${done}` } });
  }
}

http.createServer((request, response) => {
  const url = new URL(request.url, 'http://localhost');
  const us = Number(url.searchParams.get('us'));
  if (url.pathname === '/spoil') jobs.push({ at: clock + us });
  else tick(us);
  response.end(`${clock}\n`);
}).listen(Number(process.argv[2]), '127.0.0.1');
