// SPDX-License-Identifier: Apache-2.0
// Draws point and line clouds with WebGL and lets mouse, fingers and keys move around them.

import { OrbitCamera } from "./camera.js";
import { LINES, POINTS } from "./glb.js";

const MOST_SAMPLES = 20000;
const OUTLIERS = 0.05; // share of the points at either end of an axis that do not count for the size of the scene
const SPREAD = 3.5; // side in radii of the square on which all points would lie as densely as on the scene's surfaces
const LOOK_DOWN = { yaw: -0.35, pitch: 0.25 }; // radians
const LEAST_AHEAD = 0.5; // what is turned about lies in front of the first camera by this share of the radius at least
const STEP_BACK = 1.25; // of its distance: the first camera is in the picture, and more than it saw
const MOST_PIXELS_PER_PIXEL = 2;
const ORBIT_SPEED = 3; // radians per focal length
const KEY_STEP = 0.05; // of the height
const WHEEL_PIXELS_PER_LINE = 16;
const ZOOM_PER_PIXEL = 0.0015;

const VERTEX_SHADER = `
  attribute vec3 position;
  attribute vec4 color;
  uniform mat4 clipFromScene;
  uniform float pointPixels;  // at distance 1
  varying vec4 shade;
  void main() {
    gl_Position = clipFromScene * vec4(position, 1.0);
    gl_PointSize = clamp(pointPixels / gl_Position.w, 1.0, 64.0);
    shade = color;
  }`;
const FRAGMENT_SHADER = `
  precision mediump float;
  uniform bool round;
  varying vec4 shade;
  void main() {
    if (round && length(gl_PointCoord - 0.5) > 0.5) discard;
    gl_FragColor = shade;
  }`;

export class Viewer {
  /**
   * @param {HTMLElement} container gets a canvas that fills it
   * @param {{mode: number, positions: Float32Array, colors: Uint8Array}[]} clouds
   * @param {(text: string) => void} onFailure told when the graphics driver gives up
   */
  constructor(container, clouds, onFailure) {
    const points = clouds.filter(({ mode }) => mode === POINTS);
    const { centre, radius } = extent(points.length ? points : clouds);
    this.camera = new OrbitCamera(viewpoint(centre, radius, clouds.find(({ mode }) => mode === LINES)), radius);
    const count = points.reduce((sum, { positions }) => sum + positions.length / 3, 0);
    this.spacing = (SPREAD * radius) / Math.sqrt(Math.max(count, 1));
    this.pointSize = 1; // in spacings
    this.showLines = true;

    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("aria-label", "3-D view");
    this.gl = this.canvas.getContext("webgl");
    if (!this.gl) {
      throw new Error("this browser offers no WebGL");
    }
    this.canvas.addEventListener("webglcontextlost", () => {
      if (!this.closed) onFailure("The graphics driver has given up; close the scene and open it again.");
    });
    this.program = buildProgram(this.gl);
    this.objects = clouds.map((cloud) => upload(this.gl, cloud));
    container.replaceChildren(this.canvas);
    addGestures(this);
    this.resizes = new ResizeObserver(() => this.redraw());
    this.resizes.observe(this.canvas);
  }

  reset() {
    this.camera.reset();
    this.redraw();
  }

  /** Draw before the next picture is shown, however often it was asked for until then. */
  redraw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      if (!this.closed) this.draw();
    });
  }

  draw() {
    const { gl, canvas, program } = this;
    const density = Math.min(devicePixelRatio, MOST_PIXELS_PER_PIXEL);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * density) || 1);
    if (canvas.width !== width || canvas.height !== height) {
      Object.assign(canvas, { width, height });
    }
    gl.viewport(0, 0, width, height);
    gl.enable(gl.DEPTH_TEST);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT); // to transparent: the page shows through
    gl.useProgram(program.id);
    gl.uniformMatrix4fv(program.clipFromScene, false, this.camera.clipFromScene(width, height));
    gl.uniform1f(program.pointPixels, this.pointSize * this.spacing * OrbitCamera.focalLength(width, height));
    for (const { mode, positions, colors, count } of this.objects) {
      if (mode === LINES && !this.showLines) continue;
      gl.uniform1i(program.round, mode === POINTS ? 1 : 0);
      gl.bindBuffer(gl.ARRAY_BUFFER, positions);
      gl.vertexAttribPointer(program.position, 3, gl.FLOAT, false, 0, 0);
      gl.bindBuffer(gl.ARRAY_BUFFER, colors);
      gl.vertexAttribPointer(program.color, 4, gl.UNSIGNED_BYTE, true, 0, 0);
      gl.drawArrays(mode === POINTS ? gl.POINTS : gl.LINES, 0, count);
    }
  }

  /** Give the graphics memory back. */
  close() {
    this.closed = true;
    this.resizes.disconnect();
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
    this.canvas.remove();
  }
}

/** Middle and radius of what most of the points fill. */
function extent(clouds) {
  const count = clouds.reduce((sum, { positions }) => sum + positions.length / 3, 0);
  const step = Math.max(1, Math.floor(count / MOST_SAMPLES));
  const sides = [0, 1, 2].map((axis) => {
    const samples = clouds.flatMap(({ positions }) => {
      const values = [];
      for (let i = axis; i < positions.length; i += 3 * step) values.push(positions[i]);
      return values;
    });
    samples.sort((a, b) => a - b);
    const cut = Math.floor(OUTLIERS * (samples.length - 1));
    return [samples[cut], samples[samples.length - 1 - cut]];
  });
  const radius = Math.hypot(...sides.map(([low, high]) => high - low)) / 2;
  return { centre: sides.map(([low, high]) => (low + high) / 2), radius: radius || 1 };
}

/** Behind the first camera, which looks along -z and whose lines begin in its centre; without one, before it all. */
function viewpoint(centre, radius, firstCamera) {
  if (!firstCamera) return { target: centre, distance: OrbitCamera.distanceFor(radius), ...LOOK_DOWN };
  const [x, y, z] = firstCamera.positions;
  const ahead = Math.max(z - centre[2], LEAST_AHEAD * radius);
  return { target: [x, y, z - ahead], distance: STEP_BACK * ahead, yaw: 0, pitch: 0 };
}

function buildProgram(gl) {
  const id = gl.createProgram();
  for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX_SHADER], [gl.FRAGMENT_SHADER, FRAGMENT_SHADER]]) {
    const shader = gl.createShader(type);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(id, shader);
  }
  gl.linkProgram(id);
  if (!gl.getProgramParameter(id, gl.LINK_STATUS)) {
    throw new Error("the graphics driver refuses the shaders");
  }
  const program = { id };
  for (const name of ["position", "color"]) {
    program[name] = gl.getAttribLocation(id, name);
    gl.enableVertexAttribArray(program[name]);
  }
  for (const name of ["clipFromScene", "pointPixels", "round"]) {
    program[name] = gl.getUniformLocation(id, name);
  }
  return program;
}

function upload(gl, { mode, positions, colors }) {
  const [positionBuffer, colorBuffer] = [positions, colors].map((values) => {
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    return buffer;
  });
  return { mode, positions: positionBuffer, colors: colorBuffer, count: positions.length / 3 };
}

/**
 * One finger or the left button orbits; two fingers, another button or shift pan; wheel and pinch zoom.
 * Arrows orbit, with shift they pan; + and - zoom; 0 and a double click reset.
 */
function addGestures(viewer) {
  const { canvas, camera } = viewer;
  const pointers = new Map();

  /** Middle and spread of all fingers, in CSS pixels. */
  function grip() {
    const all = [...pointers.values()];
    const mean = (axis) => all.reduce((sum, pointer) => sum + pointer[axis], 0) / all.length;
    const [x, y] = [mean("x"), mean("y")];
    return { x, y, spread: Math.max(...all.map((pointer) => Math.hypot(pointer.x - x, pointer.y - y))) };
  }

  const focal = () => OrbitCamera.focalLength(canvas.clientWidth, canvas.clientHeight);

  function move(right, up, panning) {
    if (panning) camera.pan(right / focal(), up / focal());
    else camera.orbit((ORBIT_SPEED * right) / focal(), (-ORBIT_SPEED * up) / focal());
    viewer.redraw();
  }

  function zoomAt(factor, { x, y }) {
    const box = canvas.getBoundingClientRect();
    camera.zoom(factor, (x - box.x - box.width / 2) / focal(), (box.y + box.height / 2 - y) / focal());
    viewer.redraw();
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, pans: event.button !== 0 || event.shiftKey });
  });
  canvas.addEventListener("pointermove", (event) => {
    const pointer = pointers.get(event.pointerId);
    if (!pointer) return;
    const before = grip();
    Object.assign(pointer, { x: event.clientX, y: event.clientY });
    const after = grip();
    if (pointers.size > 1 && before.spread > 0 && after.spread > 0) zoomAt(before.spread / after.spread, before);
    move(after.x - before.x, before.y - after.y, pointers.size > 1 || pointer.pans);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", () => viewer.reset());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? WHEEL_PIXELS_PER_LINE : 1);
    zoomAt(Math.exp(ZOOM_PER_PIXEL * pixels), event);
  }, { passive: false });

  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  const zooms = { "+": 1 - 2 * KEY_STEP, "=": 1 - 2 * KEY_STEP, "-": 1 + 2 * KEY_STEP };
  canvas.addEventListener("keydown", (event) => {
    const step = steps[event.key]?.map((direction) => direction * KEY_STEP * canvas.clientHeight);
    if (step) move(...step, event.shiftKey);
    else if (event.key in zooms) camera.zoom(zooms[event.key]);
    else if (event.key === "0") camera.reset();
    else return;
    event.preventDefault();
    viewer.redraw();
  });
}
