// SPDX-License-Identifier: Apache-2.0
// The viewer within another page of this server, which says behind the # of the address which file is shown:
// #scene=URL, or nothing. What comes after another scene is looked at from the same side.

import { Controls } from "./controls.js";
import { readScene } from "./glb.js";
import { Viewer } from "./viewer.js";

const element = (id) => document.getElementById(id);
const say = (text) => { element("model-message").textContent = text; };
const controls = new Controls(element("controls"));
let viewer = null;
let loading = new AbortController();

async function show() {
  loading.abort();
  const mine = (loading = new AbortController());
  const url = new URLSearchParams(location.hash.slice(1)).get("scene");
  if (!url) {
    end();
    say("The point cloud will be here.");
    return;
  }
  try {
    const address = new URL(url, location.href);
    if (address.origin !== location.origin) throw new Error("it is not of this server");
    if (!viewer) say("Loading…");
    const response = await fetch(address, { signal: mine.signal });
    if (!response.ok) throw new Error("it is gone");
    const { clouds, isMetric } = readScene(await response.arrayBuffer());
    if (mine !== loading) return;
    if (!clouds.length) throw new Error("no point is left");
    const before = viewer?.camera;
    end();
    viewer = new Viewer(element("canvas"), clouds, say, "3-D view of the point cloud");
    if (before) viewer.camera.follow(before);
    controls.govern([viewer], isMetric);
    say("");
  } catch (error) {
    if (mine !== loading) return;
    end();
    say(`The point cloud cannot be shown: ${error.message}.`);
  }
}

function end() {
  controls.govern([], false);
  viewer?.close();
  viewer = null;
}

addEventListener("hashchange", show);
show();
