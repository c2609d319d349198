#include "penstock/observability/admin.h"

namespace penstock::observability {

// Every text from /status is put in with textContent, never as HTML: names come from outside.
std::string_view status_page() {
  static constexpr std::string_view page = R"html(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Penstock</title>
<style>
  :root { color-scheme: light dark; --ink: #1c2733; --soft: #66758a; --line: #dfe5ec; --card: #fff; --back: #f4f6f9;
          --water: #1f7fbf; --good: #2a9d5c; --warn: #d08a1d; --bad: #c8443c; }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e4eaf1; --soft: #8c9bae; --line: #2b3642; --card: #1a222b; --back: #12181f; --water: #4aa8e0; } }
  * { box-sizing: border-box; }
  body { margin: 0; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); }
  main { max-width: 1100px; margin: 0 auto; padding: 24px 20px 60px; }
  header { display: flex; align-items: baseline; gap: 14px; flex-wrap: wrap; margin-bottom: 20px; }
  h1 { font-size: 24px; margin: 0; }
  h2 { font-size: 16px; margin: 28px 0 10px; }
  .soft { color: var(--soft); font-size: 13px; }
  .badge { padding: 2px 10px; border-radius: 999px; color: #fff; font-size: 13px; background: var(--soft); }
  .badge.good { background: var(--good); } .badge.warn { background: var(--warn); } .badge.bad { background: var(--bad); }
  .cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
  .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
  .card b { display: block; font-size: 24px; font-weight: 600; font-variant-numeric: tabular-nums; }
  .wrap { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
  table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
  th, td { text-align: right; padding: 8px 14px; border-bottom: 1px solid var(--line); white-space: nowrap; }
  th { font-weight: 500; color: var(--soft); font-size: 13px; }
  th:first-child, td:first-child, td.left, th.left { text-align: left; }
  tr:last-child td { border-bottom: 0; }
  .bar { display: inline-block; width: 90px; height: 8px; border-radius: 4px; background: var(--line); overflow: hidden; vertical-align: middle; }
  .bar i { display: block; height: 100%; background: var(--water); }
  a { color: var(--water); }
</style>
</head>
<body>
<main>
  <header>
    <h1>Penstock</h1><span id="ready" class="badge">connecting</span><span id="about" class="soft"></span>
  </header>
  <div id="cards" class="cards"></div>
  <div id="pools"></div>
  <div id="names"></div>
  <div id="cluster"></div>
  <div id="problems"></div>
  <h2>How exchanges ended</h2>
  <div class="wrap"><table><tbody id="outcomes"></tbody></table></div>
  <h2>Shards</h2>
  <div class="wrap"><table><thead><tr><th>shard</th><th class="left">ring</th><th>in flight</th><th>requests/s</th><th>connections</th><th>syscalls/s</th></tr></thead>
  <tbody id="shards"></tbody></table></div>
  <p class="soft"><a href="metrics">metrics</a> &middot; <a href="status">status (JSON)</a> &middot; <a href="debug/decisions">recent decisions</a></p>
</main>
<script>
'use strict';
const $ = id => document.getElementById(id);
const make = (tag, text, name) => { const e = document.createElement(tag); if (text !== undefined) e.textContent = text; if (name) e.className = name; return e; };
const short = n => n == null ? '–' : n >= 1e9 ? (n / 1e9).toFixed(1) + ' G' : n >= 1e6 ? (n / 1e6).toFixed(1) + ' M' : n >= 1e4 ? (n / 1e3).toFixed(1) + ' k' : n >= 100 || Number.isInteger(n) ? String(Math.round(n)) : n.toFixed(1);
const bytes = n => n >= 2 ** 30 ? (n / 2 ** 30).toFixed(1) + ' GiB' : n >= 2 ** 20 ? (n / 2 ** 20).toFixed(1) + ' MiB' : (n / 1024).toFixed(0) + ' KiB';
const time = s => s >= 86400 ? Math.floor(s / 86400) + ' d ' + Math.floor(s / 3600 % 24) + ' h' : s >= 3600 ? Math.floor(s / 3600) + ' h ' + Math.floor(s / 60 % 60) + ' min' : s >= 60 ? Math.floor(s / 60) + ' min ' + Math.floor(s % 60) + ' s' : Math.floor(s) + ' s';
let last = null;
function rate(now, before, seconds) { return before === undefined || seconds <= 0 ? null : Math.max(0, now - before) / seconds; }
function row(cells) { const tr = make('tr'); for (const c of cells) tr.append(c instanceof Node ? c : make('td', c)); return tr; }
function card(label, value) { const d = make('div', undefined, 'card'); d.append(make('b', value), make('span', label, 'soft')); return d; }
function bar(part) {
  const td = make('td'), outer = make('span', undefined, 'bar'), inner = make('i');
  inner.style.width = Math.round(Math.min(1, Math.max(0, part)) * 100) + '%';
  outer.append(inner); td.append(outer, ' ' + Math.round(part * 100) + ' %'); return td;
}
function share(responses, first) {
  let all = 0, some = 0;
  for (const [code, n] of Object.entries(responses)) { all += n; if (code[0] === first) some += n; }
  return some ? short(some) + ' (' + Math.round(some / all * 100) + ' %)' : '0';
}
function state(e) {
  const td = make('td', undefined, 'left');
  const ejected = e.ejected_for_ms > 0;
  td.append(make('span', ejected ? 'ejected ' + (e.ejected_for_ms / 1000).toFixed(1) + ' s' : e.state.replace('_', ' '),
    'badge ' + (ejected ? 'bad' : e.state === 'ready' ? 'good' : 'warn')));
  return td;
}
function remark(text) { const td = make('td', text, 'left soft'), tr = make('tr'); td.colSpan = 11; tr.append(td); return tr; }
function names(list) {
  const wrong = list.filter(n => n.error);
  if (!wrong.length) return [];
  const table = make('table'), body = make('tbody'), top = make('tr');
  for (const name of ['host', 'problem', 'for', 'addresses used']) top.append(make('th', name, 'left'));
  const thead = make('thead'); thead.append(top);
  for (const n of wrong) body.append(row([n.host, make('td', n.error, 'left'), make('td', time(n.for_s), 'left'), make('td', n.addresses.join(', ') || 'none', 'left')]));
  table.append(thead, body);
  const wrap = make('div', undefined, 'wrap'); wrap.append(table);
  return [make('h2', 'Names that do not resolve'), wrap];
}
function pool(p, old, seconds) {
  const head = make('h2', 'Pool ' + p.name + ' ');
  head.append(make('span', p.ready + ' of ' + p.endpoints.length + ' ready' + (p.held > 0 ? ', ' + short(p.held) + ' requests wait (' + bytes(p.held_bytes) + ')' : '')
    + (p.saturation >= 1 ? ', saturated' : ''), 'soft'));
  const table = make('table'), body = make('tbody'), top = make('tr');
  for (const name of ['endpoint', 'state', 'in flight', 'requests/s', 'waiting', 'running', 'KV cache', '4xx', '5xx', 'failures', 'models']) top.append(make('th', name, name === 'state' || name === 'models' ? 'left' : ''));
  const thead = make('thead'); thead.append(top);
  for (const e of p.endpoints) {
    const before = old && old.endpoints.find(o => o.name === e.name);
    const m = e.metrics;
    body.append(row([e.name, state(e), short(e.in_flight), short(rate(e.picks, before && before.picks, seconds)), m ? short(m.waiting) : '–',
      m ? short(m.running) : '–', m ? bar(m.kv_usage) : '–', share(e.responses, '4'), share(e.responses, '5'), short(e.consecutive_failures), make('td', e.models.join(', ') || '–', 'left')]));
    for (const wrong of e.problems || []) body.append(remark(wrong.why + ', for ' + time(wrong.for_s)));
  }
  table.append(thead, body);
  const wrap = make('div', undefined, 'wrap'); wrap.append(table);
  return [head, wrap];
}
function cluster(k) {
  if (!k) return [];
  const head = make('h2', 'Kubernetes ');
  head.append(make('span', k.server + ', ' + (k.synced ? 'known as of ' + time(k.last_known_age_s) + ' ago' : 'waiting for ' + k.waiting_for), 'soft'));
  const table = make('table'), body = make('tbody'), top = make('tr');
  for (const name of ['resource', 'state', 'objects', 'last byte', 'changes', 'restarts', 'full lists', 'unreadable', 'last error'])
    top.append(make('th', name, name === 'state' || name === 'last error' ? 'left' : ''));
  const thead = make('thead'); thead.append(top);
  for (const w of k.watches) {
    const td = make('td', undefined, 'left');
    td.append(make('span', w.state, 'badge ' + (!w.last_error && w.synced ? 'good' : w.essential || w.synced ? 'bad' : 'warn')));
    body.append(row([w.resource, td, short(w.objects), time(w.since_byte_s), short(w.events), short(w.restarts), short(w.relists),
      short(w.undecodable), make('td', w.last_error || '–', 'left')]));
  }
  if (k.writes) {
    const td = make('td', undefined, 'left'), refused = k.writes.statuses_forbidden || k.writes.events_forbidden;
    td.append(make('span', refused ? 'forbidden' : 'writing', 'badge ' + (refused ? 'warn' : 'good')));
    body.append(row(['statuses and Events', td, short(k.writes.statuses_written + k.writes.events_written), '–', '–',
      short(k.writes.failures), '–', '–', make('td', k.writes.last_error || '–', 'left')]));
  }
  table.append(thead, body);
  const wrap = make('div', undefined, 'wrap'); wrap.append(table);
  return [head, wrap];
}
function reduced(count) {
  return [make('p', (count ? count + ' problems of objects. ' : '') + 'Addresses, errors and problems are shown on this page when it is opened from the same host, or with admin.debug: true.', 'soft')];
}
function problems(list) {
  if (!list.length) return [];
  const table = make('table'), body = make('tbody'), top = make('tr');
  for (const name of ['object', 'reason', 'problem']) top.append(make('th', name, name === 'object' ? '' : 'left'));
  const thead = make('thead'); thead.append(top);
  for (const p of list) body.append(row([p.kind + ' ' + (p.namespace ? p.namespace + '/' : '') + p.name, make('td', p.reason, 'left'), make('td', p.message, 'left')]));
  table.append(thead, body);
  const wrap = make('div', undefined, 'wrap'); wrap.append(table);
  return [make('h2', 'Problems of objects'), wrap];
}
function show(s) {
  const seconds = last ? s.uptime_s - last.uptime_s : 0, t = s.totals, o = last && last.totals;
  $('ready').textContent = s.ready ? 'ready' : s.not_ready_because;
  $('ready').className = 'badge ' + (s.ready ? 'good' : 'warn');
  $('about').textContent = 'version ' + s.version + ', ' + s.ring + ', up ' + time(s.uptime_s);
  $('cards').replaceChildren(
    card('requests/s', short(rate(t.started, o && o.started, seconds))),
    card('in flight', short(t.in_flight)),
    card('stream events/s', short(rate(t.stream_events, o && o.stream_events, seconds))),
    card('TTFT of streams p50 / p99, ms, last ' + time(t.latency_window_s), short(t.ttft_ms_p50) + ' / ' + short(t.ttft_ms_p99)),
    card('inter-token p50 / p99, ms, last ' + time(t.latency_window_s), short(t.inter_token_ms_p50) + ' / ' + short(t.inter_token_ms_p99)),
    card('retries', short(t.retries)),
    card('client connections', short(t.client_connections)),
    card('buffered of budget', s.memory ? bytes(s.memory.used_bytes) + ' / ' + bytes(s.memory.limit_bytes) : '–'));
  $('pools').replaceChildren(...s.pools.flatMap(p => pool(p, last && last.pools.find(q => q.name === p.name), seconds)));
  $('names').replaceChildren(...names(s.names || []));
  $('cluster').replaceChildren(...cluster(s.kubernetes));
  $('problems').replaceChildren(...(s.reduced ? reduced(s.problems_count) : problems(s.problems)));
  $('outcomes').replaceChildren(...Object.entries(t.outcomes).filter(([n, c]) => c > 0 || n === 'ok').map(([n, c]) =>
    row([n.replaceAll('_', ' '), short(c), short(rate(c, o && o.outcomes[n], seconds)) + ' /s'])));
  $('shards').replaceChildren(...s.shards.map((x, i) => {
    const before = last && last.shards[i];
    return row([String(i), make('td', x.ring, 'left'), short(x.in_flight), short(rate(x.started, before && before.started, seconds)),
      short(x.client_connections), short(rate(x.syscalls ?? 0, before ? before.syscalls : undefined, seconds))]);
  }));
  last = s;
}
async function tick() {
  try {
    const answer = await fetch('status', { cache: 'no-store' });
    show(await answer.json());
  } catch (error) {
    $('ready').textContent = 'no answer';
    $('ready').className = 'badge bad';
    last = null;
  }
  setTimeout(tick, 1000);
}
tick();
</script>
</body>
</html>
)html";
  return page;
}

}  // namespace penstock::observability
