
const canvas = element.querySelector('canvas'), pen = canvas.getContext('2d');
const report = value => { props.value = value; trigger('change'); };
const drawn = () => report({drawn: canvas.toDataURL('image/png')});
function empty() { pen.fillStyle = '#000'; pen.fillRect(0, 0, canvas.width, canvas.height); }
function lay(picture) {              // fills the canvas, its centre in the middle
  const scale = Math.max(canvas.width / picture.width, canvas.height / picture.height);
  const wide = picture.width * scale, high = picture.height * scale;
  empty();
  pen.imageSmoothingEnabled = scale < 1; pen.imageSmoothingQuality = 'high';
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
