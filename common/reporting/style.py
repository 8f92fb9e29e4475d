"""Style sheet of the report: light and dark, phone to desktop, and print."""

STYLE = """\
:root {
  color-scheme: light dark;
  --paper: #fdfdfc; --panel: #f5f5f2; --ink: #1c2126; --muted: #59626c; --rule: #dcdedb;
  --accent: #0b5f91; --good: #00694d; --bad: #a3370f; --shade: #1c212630;
  --series-1: #0072b2; --series-2: #c8501b; --series-3: #00805f; --series-4: #a8447f;
  --series-5: #8f6b00; --series-6: #3585bb; --series-7: #6b4fa0; --series-8: #5f6b76;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15181b; --panel: #1d2125; --ink: #e8eaec; --muted: #a2abb4; --rule: #363c42;
    --accent: #6db8ea; --good: #5fd0a8; --bad: #f29a73; --shade: #000000c0;
    --series-1: #5db1e8; --series-2: #f0875a; --series-3: #3fc49b; --series-4: #e08abc;
    --series-5: #d9b23a; --series-6: #9ad0f0; --series-7: #b8a6ec; --series-8: #a7b2bc;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: anywhere;
}
header, main, footer { max-width: 66rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 3.5rem; }
.kicker { margin: 0; color: var(--muted); font-size: .875rem; letter-spacing: .02em; }
h1 { margin: .25rem 0 1rem; font-size: clamp(1.6rem, 1.2rem + 2vw, 2.4rem); line-height: 1.15;
  font-weight: 650; letter-spacing: -.015em; text-wrap: balance; }
h2 { margin: 0 0 1rem; font-size: 1.35rem; line-height: 1.3; font-weight: 650;
  letter-spacing: -.01em; }
h3 { margin: 2rem 0 .5rem; font-size: 1rem; font-weight: 650; }
p, ul { max-width: 44rem; margin: 0 0 1rem; }
ul { padding-left: 1.2rem; }
section { padding: 2.5rem 0 1rem; border-top: 1px solid var(--rule); margin-top: 1.5rem; }
a { color: var(--accent); text-underline-offset: .15em; }
nav ul { list-style: none; padding: 0; max-width: none; display: flex; flex-wrap: wrap;
  gap: .25rem 1.25rem; font-size: .9375rem; }
nav a { display: inline-block; padding: .3rem 0; }
.lead { font-size: 1.125rem; }
.note, figcaption, caption { color: var(--muted); font-size: .875rem; line-height: 1.5; }
.warning { border-left: 3px solid var(--bad); padding-left: .875rem; }
code { font: .875em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
td code { font-size: .8125em; color: var(--muted); }
pre { overflow-x: auto; padding: .875rem 1rem; background: var(--panel); border-radius: 6px; }
pre code { white-space: pre-wrap; overflow-wrap: anywhere; }

.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 1px;
  margin: 2rem 0 1.5rem; padding: 0; background: var(--rule); border: 1px solid var(--rule);
  border-radius: 8px; overflow: hidden; }
.tiles div { background: var(--paper); padding: 1rem 1.125rem; }
.tiles dt { color: var(--muted); font-size: .875rem; line-height: 1.4; }
.tiles dd { margin: .15rem 0 0; font-size: 1.625rem; line-height: 1.25; font-weight: 600;
  font-variant-numeric: tabular-nums; letter-spacing: -.01em; }
.tiles dd + dd { margin-top: .25rem; color: var(--muted); font-size: .875rem; font-weight: 400;
  letter-spacing: 0; }

/* Where a table is wider than the page: a shadow on the side that hides columns, in every browser,
   and words, in those that can tell whether a box scrolls. */
.scroll { overflow-x: auto; margin: 0 0 1.5rem; container-type: scroll-state;
  background:
    linear-gradient(to left, var(--paper) 1.5rem, transparent 3rem) right / 3rem 100% no-repeat
      local,
    linear-gradient(to left, var(--shade), transparent) right / 1rem 100% no-repeat scroll; }
.hint { display: none; color: var(--accent); font-weight: 600; white-space: nowrap; }
@container scroll-state(scrollable: right) { .hint { display: inline; } }
.scroll:focus-visible, a:focus-visible, summary:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 2px; }
table { border-collapse: collapse; min-width: 100%; font-size: .9375rem; line-height: 1.4;
  font-variant-numeric: tabular-nums; overflow-wrap: normal; }
caption { text-align: left; padding-bottom: .5rem; position: sticky; left: 0;
  max-width: calc(100vw - 2.5rem); }
th, td { padding: .45rem .6rem; text-align: right; vertical-align: baseline; white-space: nowrap;
  border-bottom: 1px solid var(--rule); }
thead th { color: var(--muted); font-weight: 500; font-size: .875rem; vertical-align: bottom;
  white-space: normal; border-bottom: 1px solid var(--muted); }
tbody th { text-align: left; font-weight: 500; }
tbody tr.mean > * { border-top: 1px solid var(--muted); font-weight: 600; }
th:first-child { position: sticky; left: 0; background: var(--paper); text-align: left;
  padding-left: 0; }
tbody tr.indent > th { padding-left: 1rem; font-weight: 400; }
td:last-child, th:last-child { padding-right: .25rem; }
.text td, .text th { text-align: left; white-space: normal; min-width: 6rem; max-width: 36rem; }
.text td { overflow-wrap: anywhere; }
.text td:last-child { min-width: 11rem; }
table.text { min-width: min(100%, 44rem); }
table.many td:last-child { min-width: 14rem; }
.unit, .interval { color: var(--muted); font-weight: 400; font-size: .875em; }
.interval { display: inline-block; min-width: 8.2em; padding-left: .35em; }
table.wide { font-size: .875rem; }
.wide td, .wide th:not(:first-child) { padding-left: .5rem; padding-right: .5rem; }
.wide .interval { display: block; min-width: 0; padding-left: 0; }
.lower { color: var(--good); } .higher { color: var(--bad); }

.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr));
  gap: 1.5rem 2.5rem; margin: 0 0 1rem; }
.small.figures { grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
figure { margin: 0; min-width: 0; max-width: 32rem; }
figcaption { margin-bottom: .5rem; }
figcaption b { color: var(--ink); font-weight: 600; display: block; }
figure svg { display: block; width: 100%; height: auto; overflow: visible; }
figure svg * { stroke-linejoin: round; }
.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem;
  font-size: .875rem; max-width: none; }
.legend li { display: flex; align-items: center; }
.legend svg { flex: none; width: 1.75rem; height: .75rem; margin-right: .4rem; }

.strips { --row: 1.125rem; display: grid; column-gap: .6rem; font-size: .75rem;
  grid-template-columns: fit-content(9rem) minmax(0, 1fr) auto; color: var(--muted);
  line-height: var(--row); }
.strips.dense { --row: .8125rem; font-size: .6875rem; }
.strips span { display: block; height: var(--row); overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
.strips .flagged { color: var(--bad); font-weight: 600; }
.strips svg { background: var(--panel); }
.strips .axis { grid-column: 2; position: relative; height: 1.25rem; }
.strips .axis span { position: absolute; transform: translateX(-50%); overflow: visible; }
.shade { fill: none; stroke: var(--accent); stroke-width: .86; }
.hatch { fill: none; stroke: var(--muted); stroke-width: .86; stroke-dasharray: .12 .213; }

.flow { list-style: none; margin: 0 0 1.5rem; padding: 0; max-width: 32rem; }
.flow p { margin: 0; }
.flow .stage { padding: .6rem .875rem; background: var(--panel); border: 1px solid var(--rule);
  border-radius: 6px; font-size: .9375rem; line-height: 1.45; }
.flow .out { margin-left: 1.5rem; padding: .5rem 0 .5rem 1rem; border-left: 2px solid var(--rule);
  color: var(--muted); font-size: .875rem; }

.bars { margin: 0 0 1.5rem; max-width: 44rem; }
.bars dt { font-size: .9375rem; }
.bars dd { margin: .2rem 0 .8rem; }
.bar { height: .6rem; border-radius: 2px; background: var(--series-8); min-width: 2px; }
.bar.ours { background: var(--accent); }
details { margin: 0 0 1rem; }
summary { cursor: pointer; padding: .4rem 0; color: var(--accent); width: fit-content; }
footer { padding-top: 1.5rem; padding-bottom: 4rem; }

@media (max-width: 40rem) {
  header { padding-top: 2rem; }
  section { padding-top: 2rem; }
  th, td { padding: .45rem .5rem; }
  /* Narrow, so that the first columns of numbers are seen beside it. */
  tbody th { white-space: normal; min-width: 6.5rem; max-width: 8rem; overflow-wrap: anywhere; }
  .text td, .text th, .text td:last-child, .many td:last-child { min-width: 6.5rem; }
  thead th { min-width: 4.5rem; }
  .interval { display: block; min-width: 0; padding-left: 0; }
}
@media print {
  :root { --paper: #fff; }
  nav { display: none; }
  .scroll { overflow: visible; background: none; }
  .hint { display: none; }
  figure, tr, .tiles { break-inside: avoid; }
}
"""
