// SPDX-License-Identifier: Apache-2.0
// The page: groups, the scenes of one, and one scene over them. The address says which: ?group=&id=&page=&with=.

import { Controls } from "./controls.js";
import { readScene } from "./glb.js";
import { Viewer } from "./viewer.js";

const CARDS_PER_PAGE = 16;
const IMAGES_PER_PAGE = 4;
const element = (id) => document.getElementById(id);

const cards = { items: [] };
let group = null; // { id, title, items, details }: what is shown, read once
let opened = null; // what goes with the scene that is open: { item, other, loading, viewers }
const controls = new Controls(element("controls"));

const address = () => {
  const query = new URLSearchParams(location.search);
  return { group: query.get("group"), id: query.get("id"), page: Number.parseInt(query.get("page"), 10) || 1, with: query.get("with") };
};

function link(state) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) {
    if (value !== null && value !== "" && !(key === "page" && value === 1)) query.set(key, value);
  }
  return `?${query}`;
}

function go(state) {
  history.pushState(null, "", link(state));
  show();
}

/** Follow a link without loading the page again; new tabs and windows are the browser's. */
function follows(anchor, state) {
  anchor.href = link(state);
  anchor.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(state);
  });
  return anchor;
}

function make(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

async function readJson(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

async function show() {
  const state = address();
  try {
    if (state.group === null) await showGroups();
    else await showGroup(state);
  } catch (error) {
    say(`The gallery did not answer: ${error.message}`);
  }
}

const say = (text) => { element("message").textContent = text; };

async function showGroups() {
  closeScene();
  if (group !== null) element("search").value = "";
  group = null;
  const { groups } = await readJson("manifest.json");
  if (address().group !== null) return; // went on meanwhile
  document.title = "Gallery";
  element("group-title").textContent = "";
  showCards([], null);
  element("pages").hidden = true;
  const found = groups.filter(({ title }) => isSearched(title));
  element("groups").replaceChildren(
    ...found.map(({ id, title }) => make("li", {}, follows(make("a", { textContent: title }), { group: id }))),
  );
  say(found.length ? "" : groups.length ? "No group has such a name." :
    "No scene yet: a scene is a folder with scene.glb and scene.jpg, as da3 exports them with the format glb.");
}

async function showGroup(state) {
  if (group?.id !== state.group) {
    if (group === null) element("search").value = "";
    const name = encodeURIComponent(state.group);
    const [{ groups }, { items }, details] = await Promise.all(
      ["manifest.json", `manifest/${name}.json`, `details/${name}.json`].map(readJson),
    );
    if (address().group !== state.group) return; // went on meanwhile
    group = {
      id: state.group,
      title: groups.find(({ id }) => id === state.group)?.title ?? state.group,
      items,
      details: new Map(details.items.map((item) => [item.id, item])),
    };
  }
  document.title = `${group.title} – Gallery`;
  element("group-title").textContent = group.title;
  element("groups").replaceChildren();
  const found = group.items.filter(({ title }) => isSearched(title));
  const page = paginate(found, CARDS_PER_PAGE, state.page, element("pages"), (number) => {
    go({ group: group.id, page: number });
    scrollTo(0, 0);
  });
  showCards(page, state.page);
  say(found.length ? "" : group.items.length ? "No scene has such a name." : "There is no scene in this group.");

  const item = group.items.find(({ id }) => id === state.id);
  if (item) openScene(item, group.items.find(({ id }) => id === state.with) ?? null);
  else closeScene();
  if (state.id !== null && !item) say(`There is no scene ${state.id} in this group.`);
}

const isSearched = (title) => title.toLowerCase().includes(element("search").value.trim().toLowerCase());

/** Leaves them alone where they are the same: opening a scene above them must not move the focus or load pictures. */
function showCards(items, page) {
  if (items.length === cards.items.length && items.every((item, i) => item === cards.items[i])) return;
  cards.items = items;
  element("scenes").replaceChildren(...items.map((item) => make("li", {}, card(item, page))));
}

function card(item, page) {
  const image = make("img", { loading: "lazy", src: item.thumbnail, alt: "" });
  const caption = make("div", { className: "caption" },
    make("span", { className: "title", textContent: item.title }),
    make("span", { className: "points", textContent: pointCount(item) }));
  return follows(make("a", {}, image, caption), { group: group.id, id: item.id, page });
}

function pointCount({ id }) {
  const points = group.details.get(id)?.points ?? null;
  return points === null ? "" : `${points.toLocaleString("en")} points`;
}

/** The part of a list that a page shows; `pager` gets the buttons to the others. */
function paginate(list, size, wanted, pager, turn) {
  const last = Math.max(1, Math.ceil(list.length / size));
  const page = Math.min(Math.max(wanted, 1), last);
  const button = (text, number, disabled) => make("button", {
    type: "button", textContent: text, disabled, onclick: () => turn(number),
  });
  pager.hidden = last === 1;
  pager.replaceChildren(
    button("Previous", page - 1, page === 1),
    make("span", { textContent: `Page ${page} of ${last}` }),
    button("Next", page + 1, page === last),
  );
  return list.slice((page - 1) * size, page * size);
}

/** @param other the scene beside it, or null */
function openScene(item, other) {
  if (opened?.item === item && opened.other === other) return;
  const isNew = opened?.item !== item;
  if (isNew) closeScene();
  else endViewers();
  opened = { item, other, loading: new AbortController(), viewers: [] };
  if (isNew) {
    element("scene-title").textContent = item.title;
    element("scene-points").textContent = pointCount(item);
    element("download").href = item.model;
    element("download").download = `${item.title}.glb`;
    showFiles(group.details.get(item.id)?.files ?? []);
    showDepthImages(item.depth_images, 1);
    showComparable(item);
    controls.forget();
    element("overlay").showModal();
  }
  element("compare").value = other?.id ?? "";
  showResources(false);
  loadModels(other ? [item, other] : [item], opened);
}

function closeScene() {
  if (!opened) return;
  endViewers();
  opened = null;
  element("videos").replaceChildren();
  element("overlay").close();
}

function endViewers() {
  opened.loading.abort();
  controls.govern([], false);
  opened.viewers.forEach((viewer) => viewer.close());
}

function showComparable(item) {
  const others = group.items.filter((one) => one !== item);
  element("compare-label").hidden = !others.length;
  element("compare").replaceChildren(
    make("option", { value: "", textContent: "nothing" }),
    ...others.map(({ id, title }) => make("option", { value: id, textContent: title })),
  );
}

async function loadModels(items, scene) {
  const tell = (text) => { element("model-message").textContent = text; };
  tell("Loading…");
  try {
    const scenes = await Promise.all(items.map(async ({ model }) => {
      const response = await fetch(model, { signal: scene.loading.signal });
      if (!response.ok) throw new Error(await response.text());
      return readScene(await response.arrayBuffer());
    }));
    if (opened !== scene) return;
    if (scenes.some(({ clouds }) => !clouds.length)) throw new Error("there is nothing in it");
    const panes = items.map(() => make("div", {}));
    element("canvas").replaceChildren(...panes.map((pane, i) => make("figure", {}, pane,
      ...(items.length > 1 ? [make("figcaption", { textContent: items[i].title })] : []))));
    scene.viewers = scenes.map(({ clouds }, i) => new Viewer(panes[i], clouds, tell, `3-D view of ${items[i].title}`));
    controls.govern(scene.viewers, scenes.every(({ isMetric }) => isMetric));
    tell("");
  } catch (error) {
    if (opened === scene) tell(`The model cannot be shown: ${error.message}.`);
  }
}

function showFiles(files) {
  element("files").replaceChildren(...files.map(({ name, url, bytes }) => make("a", {
    href: url, download: "", textContent: `${name} (${size(bytes)})`,
  })));
  element("videos").replaceChildren(...files.filter(({ name }) => name.endsWith(".mp4")).map(({ name, url }) =>
    make("figure", {}, make("video", { src: url, controls: true, preload: "metadata" }),
      make("figcaption", { textContent: name }))));
}

function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(bytes, 1)) / 3));
  return `${(bytes / 1000 ** power).toLocaleString("en", { maximumSignificantDigits: 3 })} ${units[power]}`;
}

function showDepthImages(urls, wanted) {
  const page = paginate(urls, IMAGES_PER_PAGE, wanted, element("depth-pages"), (number) => showDepthImages(urls, number));
  element("depth-images").replaceChildren(...(page.length ? page.map((url) => {
    const name = decodeURIComponent(url.split("/").at(-1));
    const image = make("img", { loading: "lazy", src: url, alt: `Depth image ${name}` });
    return make("a", { href: url, target: "_blank", rel: "noopener" }, image);
  }) : [make("p", { textContent: "This scene has no depth images." })]));
}

function showResources(shown) {
  element("resources").setAttribute("aria-pressed", shown);
  element("resource-view").hidden = !shown;
  element("model").hidden = shown;
}

element("resources").addEventListener("click", () => showResources(element("resource-view").hidden));
element("close").addEventListener("click", () => element("overlay").close());
element("overlay").addEventListener("close", () => {
  const { group: shown, page } = address();
  if (opened) go({ group: shown, page });
});
element("compare").addEventListener("change", ({ target }) => go({ ...address(), with: target.value }));
element("search").addEventListener("input", show);
follows(element("home"), {});
addEventListener("popstate", show);
show();
