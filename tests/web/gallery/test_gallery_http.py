# SPDX-License-Identifier: Apache-2.0
"""The gallery over real HTTP: what it answers, and what it keeps to itself."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import trimesh
from gallery_server import HOSTILE, GalleryServer
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from da3_core.web.gallery import gallery_app

ROOM = "/rooms/exact%20room"


def test_manifests_are_exactly_as_specified(server: GalleryServer) -> None:
    assert server.get("/manifest.json").json() == {
        "groups": [
            {"id": "_root", "title": "Scenes"},
            {"id": HOSTILE, "title": HOSTILE},
            {"id": "many", "title": "many"},
            {"id": "rooms", "title": "rooms"},
        ]
    }
    assert server.get("/manifest/rooms.json").json() == {
        "group": "rooms",
        "items": [
            {
                "id": "exact room",
                "title": "exact room",
                "model": f"{ROOM}/scene.glb",
                "thumbnail": f"{ROOM}/scene.jpg",
                "depth_images": [f"{ROOM}/depth_vis/{view:04d}.jpg" for view in range(5)],
            }
        ],
    }
    assert server.get("/manifest/_root.json").json()["items"] == [
        {
            "id": "alone",
            "title": "alone",
            "model": "/alone/scene.glb",
            "thumbnail": "/alone/scene.jpg",
            "depth_images": [],
        }
    ]
    assert len(server.get("/manifest/many.json").json()["items"]) == 18


def test_every_address_in_a_manifest_leads_to_the_file(server: GalleryServer, gallery: Path) -> None:
    for group in (HOSTILE, "rooms"):
        for item in server.get(f"/manifest/{quote(group, safe='')}.json").json()["items"]:
            folder = gallery / group / item["id"]
            assert server.get(item["model"]).body == (folder / "scene.glb").read_bytes()
            assert server.get(item["thumbnail"]).body == (folder / "scene.jpg").read_bytes()
            images = [server.get(image).body for image in item["depth_images"]]
            assert images == [path.read_bytes() for path in sorted(folder.glob("depth_vis/*"))]


def test_details_tell_points_and_downloads(server: GalleryServer, gallery: Path) -> None:
    (item,) = server.get("/details/rooms.json").json()["items"]
    folder = gallery / "rooms/exact room"
    assert item["points"] == len(trimesh.load(folder / "scene.glb").geometry["points"].vertices)
    names = ["scene.glb", "exports/mini_npz/results.npz", "points.ply", "gs_video/0000_extend.mp4"]
    assert [(file["name"], file["bytes"]) for file in item["files"]] == [
        (name, (folder / name).stat().st_size) for name in names
    ]
    for file in item["files"]:
        assert server.get(file["url"]).body == (folder / file["name"]).read_bytes()


@pytest.mark.parametrize("name", ["no such", "linked%20group", "incomplete", "alone", "%00", "%0a", "x" * 5000, ""])
def test_an_unknown_group_has_no_scenes(server: GalleryServer, name: str) -> None:
    for kind in ("manifest", "details"):
        answer = server.get(f"/{kind}/{quote(name, safe='%')}.json")
        assert answer.status == 404 or answer.json()["items"] == []  # a line feed matches no address


@pytest.mark.parametrize("name", [".", "..", "%2e%2e", "a/b", "a%2fb", "..%2frooms", "rooms%5cx", "/etc"])
def test_a_path_is_no_name_of_a_group(server: GalleryServer, name: str) -> None:
    for kind in ("manifest", "details"):
        assert server.get(f"/{kind}/{name}.json").status == 400


@pytest.mark.parametrize("path", ["/", "/index.html", "/?group=rooms&id=x&page=2"])
def test_the_page(server: GalleryServer, path: str) -> None:
    answer = server.get(path)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["cache-control"] == "no-store"
    assert b"<title>Gallery</title>" in answer.body


def test_every_part_of_the_page_is_here_and_small(server: GalleryServer) -> None:
    types = {"gallery.js": "text/javascript", "viewer.js": "text/javascript", "gallery.css": "text/css"}
    for name, media_type in types.items():
        answer = server.get(f"/{name}")
        assert answer.headers["content-type"] == f"{media_type}; charset=utf-8"
        assert b"http" not in answer.body
        assert len(answer.body) < 20_000


def test_no_icon(server: GalleryServer) -> None:
    assert (server.get("/favicon.ico").status, server.get("/favicon.ico").body) == (204, b"")


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("scene.glb", "model/gltf-binary"),
        ("scene.jpg", "image/jpeg"),
        ("points.ply", "application/octet-stream"),
        ("exports/mini_npz/results.npz", "application/octet-stream"),
        ("gs_video/0000_extend.mp4", "video/mp4"),
    ],
)
def test_types_of_files(server: GalleryServer, path: str, media_type: str) -> None:
    assert server.get(f"{ROOM}/{path}").headers["content-type"] == media_type


@pytest.mark.parametrize(
    "path", ["/", "/gallery.js", "/manifest.json", f"{ROOM}/scene.jpg", "/no/such", "/manifest/..json"]
)
def test_every_answer_forbids_guessing_types_and_what_comes_from_elsewhere(server: GalleryServer, path: str) -> None:
    headers = server.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "img", "media", "connect")} == {"'self'"}
    assert {policy[kind] for kind in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=990-", 206, slice(990, 1000)),
        ("bytes=-10", 206, slice(990, 1000)),
        ("bytes=0-99999", 206, slice(0, 1000)),
        ("bytes=5000-", 416, None),
    ],
)
def test_a_video_comes_in_parts(
    server: GalleryServer, gallery: Path, asked: str, status: int, part: slice | None
) -> None:
    answer = server.get(f"{ROOM}/gs_video/0000_extend.mp4", Range=asked)
    assert (answer.status, "content-range" in answer.headers) == (status, True)
    if part:
        assert answer.body == (gallery / "rooms/exact room/gs_video/0000_extend.mp4").read_bytes()[part]
        assert answer.headers["content-range"] == f"bytes {part.start}-{part.stop - 1}/1000"


def test_an_unchanged_file_is_not_sent_again(server: GalleryServer) -> None:
    first = server.get(f"{ROOM}/scene.glb")
    again = server.get(f"{ROOM}/scene.glb", If_None_Match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert first.headers["cache-control"] == "no-cache"


def test_a_head_has_no_body(server: GalleryServer) -> None:
    answer = server.get(f"{ROOM}/scene.glb", "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 1000


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(server: GalleryServer, gallery: Path, method: str) -> None:
    before = sorted(gallery.rglob("*"))
    assert {server.get(path, method).status for path in (f"{ROOM}/scene.glb", "/", "/manifest.json")} == {405}
    assert sorted(gallery.rglob("*")) == before


ATTACKS = [
    "/secret.jpg",  # below the root, in no scene
    "/rooms/secret.json",
    "/incomplete/no%20picture/scene.glb",
    "/alone/notes.txt",  # of a type that is not shown
    "/alone/page.html",
    "/alone/results.npz.bak",
    "/alone/.hidden.jpg",
    "/alone/.staging/scene.jpg",
    "/alone/link.jpg",  # out by a link
    "/alone/depth_vis/scene.jpg",
    "/linked%20group/scene/scene.jpg",
    "/alone/notes.jpg",  # a link to a type that is not shown
    "/alone/loop.jpg",
    "/../secret.jpg",  # out by dots
    "/alone/../secret.jpg",
    "/alone/../../secret.jpg",
    "/alone/%2e%2e/%2e%2e/secret.jpg",
    "/alone/..%2f..%2fsecret.jpg",
    "/alone/%2e%2e%2f%2e%2e%2fsecret.jpg",
    "/alone/..%5c..%5csecret.jpg",
    "/alone/..\\..\\secret.jpg",
    "/alone/%252e%252e/%252e%252e/secret.jpg",
    "/alone/%c0%ae%c0%ae/%c0%ae%c0%ae/secret.jpg",
    "/../work%20space%20private/group/scene/scene.jpg",  # a sibling with the same beginning
    "/alone/../../work%20space%20private/group/scene/scene.jpg",
    "/%20private/group/scene/scene.jpg",
    "//alone/scene.jpg",  # other spellings
    "/alone//scene.jpg",
    "/alone/./scene.jpg",
    "/alone/scene.jpg/",
    "/alone/scene.jpg%00.jpg",
    "/alone/scene.jpg%00",
    "/alone%00/scene.jpg",
    "/alone/scene%0a.jpg",
    "/alone/scene.jpg::$DATA",
    "/alone/" + "x" * 3000 + ".jpg",
    "/alone/" + "x/" * 3000 + "x.jpg",
    "/alone",  # folders
    "/alone/",
    "/rooms/",
    "/rooms/exact%20room/depth_vis/",
]


@pytest.mark.parametrize("path", ATTACKS, ids=lambda path: path[:60])
def test_what_is_not_to_be_shown_is_not_found(server: GalleryServer, path: str) -> None:
    answer = server.get(path)
    assert answer.status == 404
    assert b"secret" not in answer.body


def test_an_absolute_path_leads_nowhere(server: GalleryServer, gallery: Path) -> None:
    for path in (gallery / "alone/scene.jpg", gallery.parent / "secret.jpg"):
        for address in (quote(str(path)), "/" + quote(str(path)), "/alone/" + quote(str(path), safe="")):
            assert server.get(address).status == 404


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8007", "127.0.0.1.evil.example", "localhost.evil", "[::1", "a@b:c", ""]
)
def test_other_names_of_this_machine_are_refused(server: GalleryServer, host: str) -> None:
    for path in ("/", "/manifest.json", "/alone/scene.jpg"):
        answer = server.get(path, Host=host)
        assert answer.status == 400
        assert len(answer.body) < 100


@pytest.mark.parametrize("host", ["localhost", "localhost:8007", "LOCALHOST", "127.0.0.1:1", "[::1]:8007"])
def test_own_names_are_answered(server: GalleryServer, host: str) -> None:
    assert server.get("/manifest.json", Host=host).status == 200


def test_a_larger_application_mounts_it_below_its_prefix(gallery: Path) -> None:
    client = TestClient(Starlette(routes=[Mount("/gallery", gallery_app(gallery, "/gallery"))]))
    assert client.get("/gallery").url.path == "/gallery/"
    item: dict[str, Any] = client.get("/gallery/manifest/rooms.json").json()["items"][0]
    assert item["model"] == f"/gallery{ROOM}/scene.glb"
    addresses = [item["model"], item["thumbnail"], *item["depth_images"]]
    assert {client.get(address).status_code for address in addresses} == {200}
    assert client.get("/gallery/gallery.js").headers["x-content-type-options"] == "nosniff"
    assert client.get("/gallery/..%2f..%2fsecret.jpg").status_code == 404


def test_the_model_that_is_sent_is_the_room(server: GalleryServer, tmp_path: Path) -> None:
    (tmp_path / "scene.glb").write_bytes(server.get(f"{ROOM}/scene.glb").body)
    scene = trimesh.load(tmp_path / "scene.glb")
    assert set(scene.geometry) == {"points", *(f"camera_{view}" for view in range(5))}
    assert np.ptp(scene.geometry["points"].vertices, axis=0).min() > 0.1
