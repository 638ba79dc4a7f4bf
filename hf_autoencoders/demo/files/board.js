
const find = name => element.querySelector(name), facts = props.facts;
let codes = null, encoded = null, chosen = null, level = 0, asked = 0;
find('h3').textContent = facts.name;
const at = ([row, column]) => facts.levels > 1 ? codes[row][column][level] : codes[row][column];
const say = words => { find('.said').textContent = words; };
const coarse = () => codes[0].length <= 12;    // cells so large that a number fits in, and the picture shows beneath
const colour = code => `rgb(${facts.colours[level][code].join(' ')} / ${coarse() ? .5 : 1})`;
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
  cells.classList.toggle('coarse', coarse());
  cells.replaceChildren(...codes.flatMap((line, row) => line.map((_, column) => {
    const button = document.createElement('button'), code = at([row, column]);
    button.type = 'button'; button.tabIndex = -1;
    button.dataset.place = `${row},${column}`; button.title = `code ${code}`;
    button.style.background = colour(code);
    if (coarse()) button.textContent = code;
    if (chosen && chosen[0] === row && chosen[1] === column) button.classList.add('chosen');
    return button;
  })));
  const code = chosen ? at(chosen) : null;
  find('.code').value = code ?? ''; find('.code').disabled = !chosen; find('.code').max = facts.size - 1;
  element.querySelectorAll('.palette button').forEach(b => b.classList.toggle('chosen', +b.dataset.code === code));
  mark();
  say(chosen ? `Row ${chosen[0] + 1}, column ${chosen[1] + 1}: choose its code; bright ones come first.`
             : 'Click a cell of the grid, then a code below.');
}
function mark() {                      // the chosen cell, in the picture
  find('.place').hidden = !chosen;
  if (!chosen) return;
  const [high, wide] = [100 / codes.length, 100 / codes[0].length], [row, column] = chosen;
  Object.assign(find('.place').style,
                {top: `${row * high}%`, left: `${column * wide}%`, height: `${high}%`, width: `${wide}%`});
}
function choose(row, column) {
  chosen = [Math.min(Math.max(row, 0), codes.length - 1), Math.min(Math.max(column, 0), codes[0].length - 1)];
  draw();
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
    find('.quality').textContent = '';       // it was that of the codes as encoded
    element.dataset.milliseconds = performance.now() - started;
  } catch (error) { say('No answer: is demo.py still running?'); }
}
function start() {
  const value = props.value;
  element.querySelectorAll('.of-codes').forEach(part => { part.style.display = facts.size ? '' : 'none'; });
  find('.place').hidden = true;
  if (!value || !value.seen) return;
  asked += 1;
  find('.seen').src = find('.under').src = value.seen;
  find('.decoded').src = value.decoded; find('.quality').textContent = value.quality;
  if (!value.codes) return;
  encoded = value.codes; codes = structuredClone(encoded);
  buildPalette(); draw();
}
element.addEventListener('click', event => {
  const cell = event.target.closest('.cells button'), code = event.target.closest('.palette button');
  if (cell) { choose(...cell.dataset.place.split(',').map(Number)); find('.cells').focus(); }
  if (code) set(+code.dataset.code);
  if (event.target.closest('.reset') && encoded) {
    codes = structuredClone(encoded); draw(); find('.decoded').src = props.value.decoded;
    asked += 1; find('.quality').textContent = props.value.quality;
  }
});
find('.cells').addEventListener('keydown', event => {
  const step = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
  if (!step || !codes) return;
  event.preventDefault();
  if (chosen) choose(chosen[0] + step[0], chosen[1] + step[1]); else choose(0, 0);
});
element.addEventListener('input', event => {
  if (event.target.matches('.split')) find('.compare').style.setProperty('--split', `${event.target.value}%`);
});
element.addEventListener('change', event => {
  if (event.target.matches('.code')) set(event.target.value === '' ? NaN : +event.target.value);
  if (event.target.matches('select')) { level = +event.target.value; draw(); }
});
if (facts.levels > 1) find('.depth').innerHTML = 'level <select>'
  + [...Array(facts.levels).keys()].map(k => `<option>${k}</option>`).join('') + '</select>';
watch('value', start);
start();
