"""The style sheet of the report: system fonts, light and dark."""

STYLE = """
:root{--paper:#fff;--text:#1c2024;--soft:#5b6570;--edge:#d8dde3;--tile:#f6f8fa;--proved:#1a7f37;--some:#0b66c3;
--refuted:#c5221f;--open:#8a6d00}
@media(prefers-color-scheme:dark){:root{--paper:#14171a;--text:#e8eaed;--soft:#a0a9b4;--edge:#343b43;--tile:#1d2126;
--proved:#4cc36a;--some:#62a8f5;--refuted:#ff7b72;--open:#d9b43a}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--text);font:16px/1.55 system-ui,sans-serif}
main,footer{max-width:62rem;margin:0 auto;padding:0 1.2rem}
header{padding-top:1.6rem}h1{font-size:1.8rem;margin:0}header p{margin:.2rem 0 0;color:var(--soft)}
h2{font-size:1.2rem;margin:2rem 0 .5rem}h3{font-size:1rem;margin:1.2rem 0 .2rem}p{margin:.4rem 0;max-width:50rem}
a{color:var(--some)}code,pre{font-family:ui-monospace,monospace;font-size:.85em}
pre{background:var(--tile);border:1px solid var(--edge);border-radius:6px;padding:.7rem .9rem;overflow-x:auto}
.warning{border-left:4px solid var(--refuted);padding-left:.7rem}
.cards{list-style:none;margin:1.2rem 0 0;padding:0;display:grid;gap:.7rem;
grid-template-columns:repeat(auto-fit,minmax(11rem,1fr))}
.cards li{background:var(--tile);border:1px solid var(--edge);border-radius:8px;padding:.7rem .9rem;
display:flex;flex-direction:column}
.cards b{font-size:1.6rem;line-height:1.25}.cards span{font-weight:600}.cards small{color:var(--soft)}
.curve{width:100%;max-width:50rem;display:block}.curve text{font-size:12px;fill:var(--soft)}
.curve .value{fill:var(--proved);font-weight:700}.grid{stroke:var(--edge)}
.fill-proved{fill:var(--proved);opacity:.18}.fill-refuted{fill:var(--refuted);opacity:.14}
.line-proved,.line-refuted,.guess{fill:none;stroke-width:2}.line-proved{stroke:var(--proved)}.point{fill:var(--proved)}
.line-refuted{stroke:var(--refuted)}.guess{stroke:var(--soft);stroke-dasharray:3 5;stroke-width:1.5}
.key{list-style:none;padding:0;margin:.4rem 0;display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;font-size:.9rem;
color:var(--soft)}
.key li::before{content:"";display:inline-block;width:1em;height:1em;margin-right:.45em;vertical-align:-.12em}
.k-proved::before{background:var(--proved);opacity:.6}.k-refuted::before{background:var(--refuted);opacity:.45}
.k-open::before{border:1px solid var(--soft)}
.key .k-guess::before{height:0;border-top:2px dashed var(--soft);vertical-align:.3em}
.digits{display:grid;grid-template-columns:repeat(auto-fill,minmax(2.5rem,1fr));gap:.35rem}
figure{margin:0}.digits figure,.borders li::before{border:3px solid var(--soft);border-radius:4px}
.digits figure{background:#fff;color:#222;text-align:center;font-size:.75rem;line-height:1.3;overflow:hidden}
.digits svg,.triple svg{display:block;width:100%}
.digits .p-all,.borders .p-all::before{border-color:var(--proved)}
.digits .p-some,.borders .p-some::before{border-color:var(--some)}
.digits .p-none,.borders .p-none::before{border:3px dashed var(--refuted)}
.digits .p-wrong,.borders .p-wrong::before{border:4px double var(--refuted)}
.digits .p-open,.borders .p-open::before{border:3px dotted var(--open)}
.triple{display:grid;grid-template-columns:repeat(3,minmax(6rem,11rem));gap:1rem}
.triple svg{border:1px solid var(--edge)}
.triple figcaption{font-size:.85rem;color:var(--soft)}
.scroll{overflow-x:auto;margin-top:.6rem}table{border-collapse:collapse;font-size:.85rem}
th,td{text-align:left;padding:.2rem .7rem;border-bottom:1px solid var(--edge);white-space:nowrap}
tr.refuted td:nth-child(5){color:var(--refuted)}tr.proved td:nth-child(5){color:var(--proved)}
summary{cursor:pointer;font-weight:600}.plain{padding-left:1.2rem;max-width:50rem}
footer{margin:2rem auto;color:var(--soft);font-size:.85rem}
""".strip()
