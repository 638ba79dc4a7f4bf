# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What of the demo runs in the browser: templates, styles and scripts of three widgets, for `gr.HTML` of gradio.

PLANES   latent planes, dragged by pointer or arrow keys; asks `server.look({x, y})`
CANVAS   a picture: drawn, dropped, pasted or chosen; its value is {"drawn": PNG URL} or {"example": index}
BOARD    what a model sees and decodes, and its code grid to edit; asks `server.decode(codes)`

Nothing is loaded from elsewhere.

gradio fills a template twice: `{{...}}` by Handlebars, then the outcome is run as a JavaScript template string, so that
`${...}` inside of a name would be executed. Templates therefore hold only values that the demo makes (SAFE_VALUES);
words from outside, such as names of folders, are set by the scripts as `textContent`.
"""

from html import escape


SAFE_VALUES = {"backdrop", "width", "height", "this", "@index", "facts.side"}  # data URLs of pictures, and numbers


def in_html(text: str) -> str:
    """As words of an HTML page, also where gradio makes a template of it.

    >>> in_html("<b>`${alert(1)}`")
    '&lt;b&gt;&#96;&#36;{alert(1)}&#96;'
    """
    return escape(text).replace("$", "&#36;").replace("`", "&#96;").replace("{{", "&#123;{")


PAGE_CSS = """
.gradio-container { max-width: 1400px !important; }
h1 { font-size: 1.3rem; font-weight: 600; } h3 { font-size: 1.05rem; font-weight: 600; margin: .4rem 0; }
img.crisp { image-rendering: pixelated; width: 100%; max-width: 1150px; }
.fill img { image-rendering: pixelated; width: 100% !important; height: 100% !important; object-fit: contain; }
.shares { display: flex; max-width: 1150px; } .shares span { flex: 1; text-align: center; font-size: .85rem; }
"""

PLANES = """
<div class="bench">{{#each planes}}
  <section><h3></h3>
    <div class="pair">
      <div class="plane" tabindex="0" role="application" aria-label="latent plane: drag, or arrow keys">
        <img src="{{backdrop}}" alt="codes in the latent plane" draggable="false"><i></i></div>
      <figure><img class="decoded" alt="what this point decodes to"><figcaption></figcaption></figure>
    </div><p></p></section>{{/each}}
</div>
{{#if together}}<label><input type="checkbox" checked> one drag moves both</label>{{/if}}
"""

PLANES_CSS = """
.bench { display: flex; flex-wrap: wrap; gap: 1rem; }
.pair { display: flex; gap: .6rem; align-items: flex-start; flex-wrap: wrap; }
.plane { position: relative; width: 400px; height: 400px; cursor: crosshair; touch-action: none; user-select: none; }
.plane img { width: 100%; height: 100%; }
.plane i { position: absolute; width: 18px; height: 18px; margin: -9px; border: 3px solid #000; border-radius: 50%;
           box-shadow: 0 0 0 2px #fff, inset 0 0 0 2px #fff; pointer-events: none; }
figure { width: 168px; margin: 8px 0 0; } .decoded { width: 168px; height: 168px; image-rendering: pixelated; }
figcaption { font-size: .85rem; line-height: 1.35; min-height: 4em; }
p { font-size: .85rem; margin: .2rem 0; max-width: 570px; }
"""

# One request at a time, and always for the latest place: a slow model lags behind the hand, but never queues up.
PLANES_JS = """
const planes = [...element.querySelectorAll('.plane')], places = planes.map(() => ({x: .5, y: .5}));
const figures = [...element.querySelectorAll('figure')], axes = props.axes;
[...element.querySelectorAll('section')].forEach((section, k) => {
  section.querySelector('h3').textContent = props.planes[k].name;
  section.querySelector('p').textContent = props.planes[k].caption;
});
const together = () => element.querySelector('input')?.checked;
let waiting = new Set(), busy = false;
function mark(k) {
  const dot = planes[k].querySelector('i');
  dot.style.left = `${100 * (axes.left + places[k].x * axes.width)}%`;
  dot.style.bottom = `${100 * (axes.bottom + places[k].y * axes.height)}%`;
}
async function look() {
  if (busy) return;
  busy = true;
  while (waiting.size) {
    const k = [...waiting][0], asked = together() ? [...planes.keys()] : [k];
    asked.forEach(j => waiting.delete(j));
    const started = performance.now();
    try {
      const found = await server.look(places[k]);
      asked.forEach(j => {
        figures[j].querySelector('img').src = found[j].picture;
        figures[j].querySelector('figcaption').innerHTML = found[j].caption;
      });
      element.dataset.milliseconds = performance.now() - started;
    } catch (error) { figures[k].querySelector('figcaption').textContent = 'No answer: is demo.py still running?'; }
  }
  busy = false;
}
function move(k, x, y) {
  const place = {x: Math.min(Math.max(x, 0), 1), y: Math.min(Math.max(y, 0), 1)};
  (together() ? [...planes.keys()] : [k]).forEach(j => { places[j] = place; waiting.add(j); mark(j); });
  look();
}
planes.forEach((plane, k) => {
  const follow = event => {
    const box = plane.getBoundingClientRect();
    move(k, ((event.clientX - box.left) / box.width - axes.left) / axes.width,
            ((box.bottom - event.clientY) / box.height - axes.bottom) / axes.height);
  };
  plane.addEventListener('pointerdown', event => { plane.setPointerCapture(event.pointerId); follow(event); });
  plane.addEventListener('pointermove', event => { if (event.buttons) follow(event); });
  plane.addEventListener('keydown', event => {
    const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]}[event.key];
    if (!step) return;
    event.preventDefault();
    move(k, places[k].x + .01 * step[0], places[k].y + .01 * step[1]);
  });
});
planes.forEach((plane, k) => { mark(k); waiting.add(k); });
look();
"""

BOARD = """
<h3></h3>
<div class="row">
  <figure><div class="board"><img class="seen" alt="the picture as the model sees it"><div class="cells"></div></div>
    <figcaption>what the model sees</figcaption></figure>
  <figure><img class="decoded" alt="the decoded picture"><figcaption>what it decodes to</figcaption></figure>
  <div class="tools">
    <p class="said"></p>
    <p><label>code <input type="number" min="0" step="1"></label> <span class="depth"></span>
       <button type="button" class="reset">as encoded</button></p>
    <div class="palette"></div><p>what each code paints, with a cell of its surroundings</p>
  </div>
</div>
"""

BOARD_CSS = """
.row { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
figure { margin: 0; width: ${facts.side}px; }
.board { position: relative; width: ${facts.side}px; height: ${facts.side}px; } figcaption { font-size: .85rem; }
.seen, .decoded { width: ${facts.side}px; height: ${facts.side}px; image-rendering: pixelated; display: block; }
.cells { position: absolute; inset: 0; display: grid; }
.cells button, .palette button { margin: 0; border-radius: 0; cursor: pointer; }
.cells button { border: 1px solid rgba(255,255,255,.35); color: #fff; font-size: 12px; padding: 0; overflow: hidden;
                text-shadow: 0 0 3px #000, 0 0 3px #000; }
.cells button.chosen, .palette button.chosen { outline: 3px solid #E69F00; outline-offset: -2px; z-index: 1; }
.tools { width: 300px; font-size: .85rem; } .tools p { margin: .2rem 0 .5rem; min-height: 1.3em; }
.tools input { width: 5.5em; border: 1px solid #888; padding: .15rem .3rem; color: inherit; background: transparent; }
.tools .reset, .tools select { border: 1px solid #888; border-radius: 4px; padding: .15rem .5rem; font: inherit;
                               font-size: .85rem; background: transparent; }
.palette { display: flex; flex-wrap: wrap; max-height: 215px; overflow-y: auto; }
.palette button { width: 35px; height: 35px; padding: 0; border: 1px solid #fff; image-rendering: pixelated; }
"""

BOARD_JS = """
const find = name => element.querySelector(name), facts = props.facts;
let codes = null, encoded = null, chosen = null, level = 0, asked = 0;
find('h3').textContent = facts.name;
const at = ([row, column]) => facts.levels > 1 ? codes[row][column][level] : codes[row][column];
const say = words => { find('.said').textContent = words; };
const colour = code => `hsl(${code * 137.508 % 360} 75% 45% / .5)`;
function buildPalette() {
  if (find('.palette').childElementCount) return;
  const rows = Math.ceil(facts.palette.length / facts.columns);
  facts.palette.forEach((code, place) => {
    const button = document.createElement('button');
    button.type = 'button'; button.title = `code ${code}`; button.dataset.code = code;
    const [left, top] = [place % facts.columns, Math.floor(place / facts.columns)].map(cell => `-${33 * cell}px`);
    button.style.background = `url(${facts.sprite}) ${left} ${top} / ${33 * facts.columns}px ${33 * rows}px`;
    find('.palette').append(button);
  });
}
function draw() {
  const cells = find('.cells'), wide = codes[0].length;
  cells.style.gridTemplate = `repeat(${codes.length}, 1fr) / repeat(${wide}, 1fr)`;
  cells.replaceChildren(...codes.flatMap((line, row) => line.map((_, column) => {
    const button = document.createElement('button'), code = at([row, column]);
    button.type = 'button'; button.dataset.place = `${row},${column}`; button.title = `code ${code}`;
    button.style.background = colour(code);
    if (wide <= 12) button.textContent = code;
    if (chosen && chosen[0] === row && chosen[1] === column) button.classList.add('chosen');
    return button;
  })));
  const code = chosen ? at(chosen) : null;
  find('input').value = code ?? ''; find('input').disabled = !chosen; find('input').max = facts.size - 1;
  element.querySelectorAll('.palette button').forEach(b => b.classList.toggle('chosen', +b.dataset.code === code));
  say(chosen ? `Row ${chosen[0] + 1}, column ${chosen[1] + 1}: choose its code; bright ones come first.`
             : 'Click a cell of the grid, then a code below.');
}
async function set(code) {
  if (!chosen) return say('First click a cell of the grid.');
  if (!Number.isInteger(code) || code < 0 || code >= facts.size)
    return say(`A code is a whole number from 0 to ${facts.size - 1}.`);
  const [row, column] = chosen;
  if (facts.levels > 1) codes[row][column][level] = code; else codes[row][column] = code;
  draw(); await decode();
}
async function decode() {
  const started = performance.now(), mine = ++asked;
  try {
    const answer = await server.decode(codes);
    if (mine !== asked) return;      // a later edit or picture went before
    if (answer.error) say(answer.error); else find('.decoded').src = answer.decoded;
    element.dataset.milliseconds = performance.now() - started;
  } catch (error) { say('No answer: is demo.py still running?'); }
}
function start() {
  const value = props.value;
  find('.tools').style.display = facts.size ? '' : 'none';
  if (!value || !value.seen) return;
  asked += 1;
  find('.seen').src = value.seen; find('.decoded').src = value.decoded;
  if (!value.codes) return;
  encoded = value.codes; codes = structuredClone(encoded);
  buildPalette(); draw();
}
element.addEventListener('click', event => {
  const cell = event.target.closest('.cells button'), code = event.target.closest('.palette button');
  if (cell) { chosen = cell.dataset.place.split(',').map(Number); draw(); }
  if (code) set(+code.dataset.code);
  if (event.target.closest('.reset') && encoded) { codes = structuredClone(encoded); draw(); decode(); }
});
element.addEventListener('change', event => {
  if (event.target.matches('input')) set(event.target.value === '' ? NaN : +event.target.value);
  if (event.target.matches('select')) { level = +event.target.value; draw(); }
});
if (facts.levels > 1) find('.depth').innerHTML = 'level <select>'
  + [...Array(facts.levels).keys()].map(k => `<option>${k}</option>`).join('') + '</select>';
watch('value', start);
start();
"""


CANVAS = """
<div class="easel"><canvas width="{{width}}" height="{{height}}" aria-label="draw here"></canvas></div>
<p><label>brush <input type="range" min="2" max="20" value="9"></label> <input type="color" value="#ffffff"
   aria-label="colour of the brush"> <button type="button" class="empty">empty</button>
   <label class="file">open a file<input type="file" accept="image/*" hidden></label></p>
<p>Draw, drop or paste a picture, or take one:</p>
<div class="strip">
  {{#each pictures}}<button type="button" data-index="{{@index}}"><img src="{{this}}" alt="example"></button>{{/each}}
</div>
"""

CANVAS_CSS = """
canvas { width: 280px; height: 280px; background: #000; cursor: crosshair; touch-action: none; border: 1px solid #888;
         image-rendering: pixelated; }
p { font-size: .85rem; margin: .3rem 0; display: flex; gap: .5rem; align-items: center; white-space: nowrap; }
label { font-size: .85rem; } input[type=range] { width: 64px; vertical-align: middle; }
input[type=color] { width: 26px; height: 22px; padding: 0; }
.empty, .file { border: 1px solid #888; border-radius: 4px; padding: .1rem .4rem; cursor: pointer; background: none;
                font: inherit; font-size: .85rem; }
.strip { display: flex; flex-wrap: wrap; width: 284px; }
.strip button { width: 35px; padding: 1px; margin: 0; cursor: pointer; }
.strip img { width: 33px; height: 33px; image-rendering: pixelated; }
"""

CANVAS_JS = """
const canvas = element.querySelector('canvas'), pen = canvas.getContext('2d');
const report = value => { props.value = value; trigger('change'); };
const drawn = () => report({drawn: canvas.toDataURL('image/png')});
function empty() { pen.fillStyle = '#000'; pen.fillRect(0, 0, canvas.width, canvas.height); }
function lay(picture) {              // fills the canvas, its centre in the middle
  const scale = Math.max(canvas.width / picture.width, canvas.height / picture.height);
  const wide = picture.width * scale, high = picture.height * scale;
  empty();
  pen.imageSmoothingEnabled = scale < 1;
  pen.drawImage(picture, (canvas.width - wide) / 2, (canvas.height - high) / 2, wide, high);
}
async function open(file) {
  if (file) try { lay(await createImageBitmap(file)); drawn(); }
            catch (error) { alert(`${file.name} is no picture that this browser can read.`); }
}
let last = null;
function stroke(event) {
  const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
  const point = [(event.clientX - box.left) * scale, (event.clientY - box.top) * canvas.height / box.height];
  pen.strokeStyle = element.querySelector('input[type=color]').value;
  pen.lineWidth = element.querySelector('input[type=range]').value / 100 * canvas.width;
  pen.lineCap = pen.lineJoin = 'round';
  pen.beginPath(); pen.moveTo(...(last ?? point)); pen.lineTo(...point); pen.stroke();
  last = point; drawn();
}
canvas.addEventListener('pointerdown', event => {
  canvas.setPointerCapture(event.pointerId); last = null; stroke(event);
});
canvas.addEventListener('pointermove', event => { if (event.buttons) stroke(event); });
element.addEventListener('dragover', event => event.preventDefault());
element.addEventListener('drop', event => { event.preventDefault(); open(event.dataTransfer.files[0]); });
document.addEventListener('paste', event => {
  if (element.offsetParent) open([...event.clipboardData.files][0]);
});
element.querySelector('input[type=file]').addEventListener('change', event => open(event.target.files[0]));
function take(index) {
  const picture = new Image();
  picture.onload = () => { lay(picture); report({example: index}); };
  picture.src = props.pictures[index];
}
element.addEventListener('click', event => {
  const button = event.target.closest('.strip button');
  if (button) take(+button.dataset.index);
  if (event.target.closest('.empty')) { empty(); drawn(); }
});
take(0);
"""
