
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
