// SPDX-License-Identifier: Apache-2.0
// A camera that circles around a point. Axes as in glTF: x right, y up, z towards the viewer; lengths in scene units.

const FIELD_OF_VIEW = (50 * Math.PI) / 180; // of the shorter side of the picture
const STEEPEST = Math.PI / 2 - 0.01;
const NEAREST = 0.01; // of the radius
const FARTHEST = 30;
const NEAR_PLANE = 0.1; // of the distance: what is nearer is in the way
const FAR_PLANE = 1e4; // of the near plane

export class OrbitCamera {
  /**
   * @param {{target: number[], distance: number, yaw: number, pitch: number}} home how it stands first, and after a
   *     reset; with both angles (radians) zero it looks along -z
   * @param {number} radius of the scene
   */
  constructor(home, radius) {
    this.home = home;
    this.radius = radius;
    this.reset();
  }

  /** Far enough to have a sphere of the radius in the picture. */
  static distanceFor(radius) {
    return radius / Math.sin(FIELD_OF_VIEW / 2);
  }

  reset() {
    Object.assign(this, this.home, { target: [...this.home.target] });
  }

  /** Stand in a place and look along a direction, about a point at this distance. */
  look(eye, direction, distance) {
    const length = Math.hypot(...direction);
    const [x, y, z] = direction.map((value) => value / length);
    this.distance = distance;
    this.target = [x, y, z].map((value, i) => eye[i] + distance * value);
    this.yaw = Math.atan2(-x, -z);
    this.pitch = clamp(Math.asin(-y), -STEEPEST, STEEPEST);
  }

  /** Stand as another camera does, each as seen from its own home and in its own radius. */
  follow(other) {
    const scale = this.radius / other.radius;
    this.yaw = other.yaw;
    this.pitch = other.pitch;
    this.distance = (this.home.distance * other.distance) / other.home.distance;
    this.target = this.home.target.map((value, i) => value + scale * (other.target[i] - other.home.target[i]));
  }

  /** Turn by angles in radians. */
  orbit(right, up) {
    this.yaw -= right;
    this.pitch = clamp(this.pitch + up, -STEEPEST, STEEPEST);
  }

  /** Move the picture by shares of the focal length. */
  pan(right, up) {
    const axes = this.axes();
    for (let i = 0; i < 3; i++) {
      this.target[i] -= this.distance * (right * axes.right[i] + up * axes.up[i]);
    }
  }

  /** Multiply the distance; the place so many focal lengths right of and above the middle of the picture stays put. */
  zoom(factor, right = 0, up = 0) {
    const before = this.distance;
    this.distance = clamp(before * factor, NEAREST * this.radius, FARTHEST * this.radius);
    const nearer = 1 - before / this.distance;
    this.pan(nearer * right, nearer * up);
  }

  axes() {
    const [sinYaw, cosYaw, sinPitch, cosPitch] = [
      Math.sin(this.yaw), Math.cos(this.yaw), Math.sin(this.pitch), Math.cos(this.pitch),
    ];
    return {
      right: [cosYaw, 0, -sinYaw],
      up: [-sinYaw * sinPitch, cosPitch, -cosYaw * sinPitch],
      back: [sinYaw * cosPitch, sinPitch, cosYaw * cosPitch],
    };
  }

  /** Pixels that one scene unit takes at distance 1, in a picture of this size in pixels. */
  static focalLength(width, height) {
    return Math.min(width, height) / (2 * Math.tan(FIELD_OF_VIEW / 2));
  }

  /** 4x4, column after column, from the scene to clip coordinates of a picture of this size in pixels. */
  clipFromScene(width, height) {
    const { right, up, back } = this.axes();
    const eye = this.target.map((value, i) => value + this.distance * back[i]);
    const focal = OrbitCamera.focalLength(width, height);
    const near = NEAR_PLANE * this.distance;
    const depthScale = -(FAR_PLANE + 1) / (FAR_PLANE - 1);
    const depthShift = (-2 * near * FAR_PLANE) / (FAR_PLANE - 1);
    const rows = [
      row(right, (2 * focal) / width, 0),
      row(up, (2 * focal) / height, 0),
      row(back, depthScale, depthShift),
      row(back, -1, 0),
    ];
    function row(axis, scale, shift) {
      return [...axis.map((value) => scale * value), -scale * dot(axis, eye) + shift];
    }
    return new Float32Array([0, 1, 2, 3].flatMap((column) => rows.map((values) => values[column])));
  }
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

function dot(a, b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}
