// SPDX-License-Identifier: Apache-2.0
// The controls below a scene: of the gallery, of the web app and of a scene in one file.

import { LINES } from "./glb.js";

const SECONDS_PER_CAMERA = 0.7;
const FLIGHT_SECONDS = [4, 40]; // at least, at most
const HINT = "Drag: turn · Shift-drag, right button or two fingers: move · Wheel or pinch: zoom";

const COLOR_CHOICES = [
  ["image", "Image"],
  ["depth", "Depth (near is yellow)"],
  ["confidence", "Confidence (high is yellow)"],
];

export class Controls {
  /** @param {HTMLElement} bar gets them */
  constructor(bar) {
    this.viewers = [];
    this.isMetric = false;
    this.flight = null;
    const make = (name, properties, ...children) => {
      const made = Object.assign(document.createElement(name), properties);
      made.append(...children);
      return made;
    };
    const button = (id, text) => make("button", { id, type: "button", textContent: text });
    this.reset = button("reset", "Reset");
    this.play = button("play", "Play camera path");
    this.measure = button("measure", "Measure");
    this.measure.setAttribute("aria-pressed", false);
    this.pointSize = make("input", { id: "point-size", type: "range", min: -2, max: 2, step: 0.1, value: 0 });
    this.cameras = make("input", { id: "cameras", type: "checkbox", checked: true });
    this.colors = make("select", { id: "color-by" },
      ...COLOR_CHOICES.map(([value, text]) => make("option", { value, textContent: text })));
    this.said = make("output", { id: "measured" });
    bar.replaceChildren(
      this.reset, this.play, this.measure,
      make("label", {}, "Colour ", this.colors),
      make("label", {}, "Point size ", this.pointSize),
      make("label", {}, this.cameras, " Cameras"),
      this.said,
      make("small", { textContent: HINT }),
    );
    this.reset.addEventListener("click", () => this.viewers.forEach((viewer) => viewer.reset()));
    this.play.addEventListener("click", () => (this.flight === null ? this.fly() : this.land()));
    this.measure.addEventListener("click", () => this.setMeasuring(!this.isMeasuring));
    this.colors.addEventListener("change", () => this.viewers.forEach((viewer) => viewer.colorBy(this.colors.value)));
    this.pointSize.addEventListener("input", () => this.apply());
    this.cameras.addEventListener("change", () => this.apply());
  }

  /**
   * Govern these from now on, in the state that the controls are in.
   *
   * @param {Viewer[]} viewers one, or two that move together
   * @param {boolean} isMetric whether lengths are metres
   */
  govern(viewers, isMetric) {
    this.land();
    this.viewers = viewers;
    this.isMetric = isMetric;
    for (const viewer of viewers) {
      viewer.onMove = () => {
        this.land();
        for (const other of viewers) {
          if (other !== viewer) {
            other.camera.follow(viewer.camera);
            other.redraw();
          }
        }
      };
    }
    const some = (test) => viewers.some(test);
    this.cameras.disabled = !some(({ clouds }) => clouds.some(({ mode }) => mode === LINES));
    this.play.disabled = !some(({ path }) => path.length > 1);
    const byConfidence = this.colors.querySelector("[value=confidence]");
    byConfidence.disabled = !some((viewer) => viewer.hasConfidence);
    if (byConfidence.disabled && this.colors.value === "confidence") this.colors.value = "image";
    if (this.colors.value !== "image") viewers.forEach((viewer) => viewer.colorBy(this.colors.value));
    this.setMeasuring(this.isMeasuring);
    this.apply();
  }

  /** As for somebody who has just come. */
  forget() {
    this.land();
    this.colors.value = "image";
    this.pointSize.value = 0;
    this.cameras.checked = true;
    this.setMeasuring(false);
  }

  get isMeasuring() {
    return this.measure.getAttribute("aria-pressed") === "true";
  }

  apply() {
    for (const viewer of this.viewers) {
      viewer.pointSize = 2 ** this.pointSize.valueAsNumber;
      viewer.showLines = this.cameras.checked && this.flight === null;
      viewer.redraw();
    }
  }

  setMeasuring(isWanted) {
    this.measure.setAttribute("aria-pressed", isWanted);
    this.said.textContent = isWanted ? "Click two points, or press Enter for the middle." : "";
    for (const viewer of this.viewers) {
      viewer.setMarks([]);
      viewer.onPick = isWanted ? (marks) => { this.said.textContent = this.told(marks); } : null;
    }
  }

  told([first, second]) {
    if (!first) return "There is no point: click one.";
    if (!second) return "One point: click another.";
    const length = Math.hypot(...first.map((value, i) => value - second[i]));
    const shown = length.toLocaleString("en", { maximumSignificantDigits: 3 });
    return `Distance ${shown} ${this.isMetric ? "m" : "units of the model"}`;
  }

  fly() {
    const viewers = this.viewers.filter(({ path }) => path.length > 1);
    const [least, most] = FLIGHT_SECONDS;
    const count = Math.max(...viewers.map(({ path }) => path.length));
    const duration = 1000 * Math.min(Math.max(SECONDS_PER_CAMERA * count, least), most);
    const start = performance.now();
    const step = (now) => {
      const share = Math.min(1, Math.max(0, (now - start) / duration));
      viewers.forEach((viewer) => viewer.flyTo(share));
      if (share < 1) this.flight = requestAnimationFrame(step);
      else this.land();
    };
    this.flight = requestAnimationFrame(step);
    this.play.textContent = "Stop";
    this.apply();
  }

  /** End a flight where it is. */
  land() {
    if (this.flight === null) return;
    cancelAnimationFrame(this.flight);
    this.flight = null;
    this.play.textContent = "Play camera path";
    this.apply();
  }
}
