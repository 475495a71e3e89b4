// SPDX-License-Identifier: Apache-2.0
// Draws point and line clouds with WebGL and lets mouse, fingers and keys move around them.

import { OrbitCamera } from "./camera.js";
import { shades } from "./colors.js";
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
const REACH = 10; // CSS pixels within which a click finds a point
const CLICK = 4; // CSS pixels that a pointer may move within one
const MARK = 11; // CSS pixels
const MARK_COLORS = [[230, 30, 60, 255], [30, 110, 230, 255]];
const FRUSTUM_CORNERS = [1, 3, 5, 7]; // vertices of a frustum's lines, of which the first is its centre
const FLIGHT_DISTANCE = 0.2; // of the radius: what is turned about when a flight stops

const VERTEX_SHADER = `
  attribute vec3 position;
  attribute vec4 color;
  uniform mat4 clipFromScene;
  uniform float pointPixels;  // at distance 1
  uniform float markPixels;  // at any distance; 0 for what is no mark
  varying vec4 shade;
  void main() {
    gl_Position = clipFromScene * vec4(position, 1.0);
    gl_PointSize = markPixels > 0.0 ? markPixels : clamp(pointPixels / gl_Position.w, 1.0, 64.0);
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
   * @param {{mode: number, positions: Float32Array, colors: Uint8Array, confidence: ?Float32Array}[]} clouds
   * @param {(text: string) => void} onFailure told when the graphics driver gives up
   * @param {string} name of the view, for who does not see it
   */
  constructor(container, clouds, onFailure, name = "3-D view") {
    const points = clouds.filter(({ mode }) => mode === POINTS);
    const { centre, radius } = extent(points.length ? points : clouds);
    this.camera = new OrbitCamera(viewpoint(centre, radius, clouds.find(({ mode }) => mode === LINES)), radius);
    const count = points.reduce((sum, { positions }) => sum + positions.length / 3, 0);
    this.spacing = (SPREAD * radius) / Math.sqrt(Math.max(count, 1));
    this.pointSize = 1; // in spacings
    this.showLines = true;
    this.clouds = clouds;
    this.path = clouds.filter(({ mode }) => mode === LINES).flatMap(poseOf);
    this.marks = []; // points of the scene between which is measured, two at most
    this.onMove = () => {};
    this.onPick = null; // (marks) => void while a click measures; no marks: it met no point

    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-label", `${name}: arrows turn, with Shift they move, + and - zoom, 0 resets`);
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
    this.moved();
  }

  /** Draw after a movement by hand, and tell who wants to know. */
  moved() {
    this.redraw();
    this.onMove(this);
  }

  get hasConfidence() {
    return this.clouds.some(({ confidence }) => confidence);
  }

  /** @param {"image" | "depth" | "confidence"} what the colour of a point says; depth is that of the first camera */
  colorBy(what) {
    const { gl } = this;
    this.clouds.forEach(({ mode, positions, colors, confidence }, i) => {
      if (mode !== POINTS) return;
      let shown = colors;
      if (what === "confidence" && confidence) shown = shades(confidence);
      if (what === "depth") {
        shown = shades(Float32Array.from({ length: positions.length / 3 }, (_, k) => positions[3 * k + 2]));
      }
      gl.bindBuffer(gl.ARRAY_BUFFER, this.objects[i].colors);
      gl.bufferData(gl.ARRAY_BUFFER, shown, gl.STATIC_DRAW);
    });
    this.redraw();
  }

  /** Stand where the cameras were, in their order: `share` 0 is the first, 1 the last. */
  flyTo(share) {
    const place = share * (this.path.length - 1);
    const before = Math.min(Math.floor(place), this.path.length - 2);
    const mixed = (one, two) => one.map((value, i) => value + (place - before) * (two[i] - value));
    const [from, to] = this.path.slice(before, before + 2);
    const radius = FLIGHT_DISTANCE * this.camera.radius;
    this.camera.look(mixed(from.eye, to.eye), mixed(from.ahead, to.ahead), radius);
    this.redraw();
  }

  /** The nearest point of the scene at a place of the canvas, in CSS pixels; null where there is none. */
  pointAt(x, y) {
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const m = this.camera.clipFromScene(width, height);
    let [found, nearest] = [null, Infinity];
    for (const { mode, positions } of this.clouds) {
      for (let i = 0; mode === POINTS && i < positions.length; i += 3) {
        const [a, b, c] = [positions[i], positions[i + 1], positions[i + 2]];
        const depth = m[3] * a + m[7] * b + m[11] * c + m[15];
        if (depth <= 0 || depth >= nearest) continue;
        const right = ((m[0] * a + m[4] * b + m[8] * c + m[12]) / depth + 1) * (width / 2);
        const down = (1 - (m[1] * a + m[5] * b + m[9] * c + m[13]) / depth) * (height / 2);
        if (Math.hypot(right - x, down - y) < REACH) [found, nearest] = [[a, b, c], depth];
      }
    }
    return found;
  }

  /** Measure to the point at a place of the canvas, in CSS pixels; a third begins anew. */
  markAt(x, y) {
    const point = this.pointAt(x, y);
    if (point) this.setMarks([...(this.marks.length === 1 ? this.marks : []), point]);
    this.onPick(point ? this.marks : []);
  }

  setMarks(marks) {
    this.marks = marks;
    (this.markObjects ?? []).flatMap(({ positions, colors }) => [positions, colors])
      .forEach((buffer) => this.gl.deleteBuffer(buffer));
    const cloud = {
      positions: new Float32Array(marks.flat()),
      colors: new Uint8Array(MARK_COLORS.slice(0, marks.length).flat()),
    };
    this.markObjects = [LINES, POINTS].map((mode) => upload(this.gl, { mode, ...cloud }));
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
    const marks = this.markObjects ?? [];
    for (const object of [...this.objects, ...marks]) {
      const { mode, positions, colors, count } = object;
      const isMark = marks.includes(object);
      if (mode === LINES && !isMark && !this.showLines) continue;
      if (isMark) gl.disable(gl.DEPTH_TEST); // what is behind something is measured all the same
      gl.uniform1f(program.markPixels, isMark ? MARK * density : 0);
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

/** Where a camera stands and looks to, from the lines of its frustum; none where they are no frustum. */
function poseOf({ positions }) {
  const vertex = (i) => [...positions.subarray(3 * i, 3 * i + 3)];
  if (positions.length < 3 * (FRUSTUM_CORNERS.at(-1) + 1)) return [];
  const eye = vertex(0);
  const ahead = eye.map((value, axis) =>
    FRUSTUM_CORNERS.reduce((sum, i) => sum + vertex(i)[axis] - value, 0));
  return Math.hypot(...ahead) > 0 ? [{ eye, ahead }] : [];
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
  for (const name of ["clipFromScene", "pointPixels", "markPixels", "round"]) {
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
 * Arrows orbit, with shift they pan; + and - zoom; 0 and a double click reset. While it measures, a click or the Enter
 * key, which means the middle, marks a point.
 */
function addGestures(viewer) {
  const { canvas, camera } = viewer;
  const pointers = new Map();
  let pressed = null; // where, while it may become a click

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
    viewer.moved();
  }

  function zoomAt(factor, { x, y }) {
    const box = canvas.getBoundingClientRect();
    camera.zoom(factor, (x - box.x - box.width / 2) / focal(), (box.y + box.height / 2 - y) / focal());
    viewer.moved();
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, pans: event.button !== 0 || event.shiftKey });
    pressed = pointers.size === 1 && event.button === 0 ? { x: event.clientX, y: event.clientY } : null;
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
  canvas.addEventListener("pointerup", (event) => {
    const moved = pressed && Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y);
    if (moved !== null && moved <= CLICK && viewer.onPick) {
      const box = canvas.getBoundingClientRect();
      viewer.markAt(event.clientX - box.x, event.clientY - box.y);
    }
    pressed = null;
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", () => {
    if (!viewer.onPick) viewer.reset();
  });
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
    else if (event.key === "Enter" && viewer.onPick) viewer.markAt(canvas.clientWidth / 2, canvas.clientHeight / 2);
    else return;
    event.preventDefault();
    viewer.moved();
  });
}
