# SPDX-License-Identifier: Apache-2.0
"""The commands on real files with a real network: results, refusals and exit codes."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from da3_core import DepthAnything3, InputError
from da3_core.formats.colmap_model import read_model
from da3_core.synthetic import room_walk

Command = Callable[..., Result]
MakeVideo = Callable[..., Path]
SMALL = ("--model-dir", "untrained:da3-small", "--process-res", "70", "--device", "cpu")


def test_a_folder_becomes_arrays_in_natural_order_and_stdout_lists_what_was_written(
    da3: Command, photos: Path, tmp_path: Path
) -> None:
    result = da3("images", photos, "--export-dir", "out dir", "--export-format", "mini_npz-depth_vis", *SMALL)
    assert result.exit_code == 0, result.stderr
    written = [Path(line) for line in result.stdout.splitlines()]
    assert [path.relative_to(tmp_path / "out dir").as_posix() for path in written] == [
        "exports/mini_npz/results.npz",
        "depth_vis/0000.jpg",
        "depth_vis/0001.jpg",
        "depth_vis/0002.jpg",
    ]
    with np.load(written[0]) as arrays:
        assert arrays["depth"].shape == (3, 56, 70)
        assert arrays["exts"].shape == (3, 4, 4)
        assert [Path(name).name for name in arrays["image_names"]] == ["1.png", "2.JPG", "10.webp"]


def test_the_summary_is_the_only_thing_on_stdout(da3: Command, photos: Path, tmp_path: Path) -> None:
    result = da3("auto", photos / "2.JPG", "--export-dir", "out", "--export-format", "glb", "--json", *SMALL)
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert (summary["views"], summary["processed_size"], summary["is_metric"]) == (1, [56, 70], False)
    assert (summary["model"], summary["weights_licence"], summary["device"]) == ("da3-small", "Apache-2.0", "cpu")
    scene = next(file for file in summary["files"]["glb"] if file["path"].endswith("scene.glb"))
    assert scene["bytes"] == (tmp_path / "out/scene.glb").stat().st_size > 0
    assert "IMAGE" in result.stderr


def test_options_reach_the_network_and_the_exporter(da3: Command, photos: Path, tmp_path: Path) -> None:
    result = da3(
        *("images", photos, "--export-dir", "out", "--export-format", "npz-glb", *SMALL),
        *("--image-extensions", "png,webp", "--process-res-method", "lower_bound_crop", "--export-feat", "0, 11"),
        *("--ref-view-strategy", "first", "--num-max-points", "7", "--no-show-cameras", "--use-ray-pose"),
        *("--conf-thresh-percentile", "0", "--export-kwargs", "glb:export_depth_vis:false", "--precision", "float32"),
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    with np.load(tmp_path / "out/exports/npz/results.npz") as arrays:
        assert arrays["depth"].shape == (2, 70, 84)
    trimesh = pytest.importorskip("trimesh")
    clouds = list(trimesh.load(tmp_path / "out/scene.glb").geometry.values())
    assert [len(cloud.vertices) for cloud in clouds] == [7]
    assert not (tmp_path / "out/depth_vis").exists()


@pytest.fixture
def scan(photos: Path, tmp_path: Path) -> Path:
    """A COLMAP folder of the three views, with cameras 2 units apart and an OPENCV lens that bends nothing."""
    folder = tmp_path / "colmap_dataset"
    (folder / "sparse/0").mkdir(parents=True)
    (folder / "images").mkdir()
    for path in photos.glob("[0-9]*"):
        (folder / "images" / path.name).write_bytes(path.read_bytes())
    (folder / "sparse/0/cameras.txt").write_text(
        "1 OPENCV 160 120 150 140 82 58 0 0 0 0\n2 PINHOLE 80 60 75 70 41 29\n"
    )
    (folder / "sparse/0/images.txt").write_text(
        "1 1 0 0 0 0 0 0 1 10.webp\n\n2 1 0 0 0 2 0 0 2 2.JPG\n\n3 0 0 0 1 0 2 5 1 1.png\n\n"
    )
    return folder


def test_a_reconstruction_gives_its_frame_unit_and_cameras_to_the_results(
    da3: Command, scan: Path, tmp_path: Path
) -> None:
    result = da3(
        *("colmap", "./colmap_dataset", "--sparse-subdir", "0", "--align-to-input-ext-scale"),
        *("--export-dir", "./output", "--export-format", "colmap-glb", *SMALL),
    )
    assert result.exit_code == 0, result.stderr
    cameras, images = read_model(tmp_path / "output/sparse/0")
    by_name = {Path(image.name).name: image for image in images}
    assert sorted(by_name) == ["1.png", "10.webp", "2.JPG"]  # two were rectified
    np.testing.assert_allclose(by_name["1.png"].world_to_camera[:3, 3], [0, 2, 5], atol=1e-6)
    np.testing.assert_allclose(by_name["1.png"].world_to_camera[:3, :3], np.diag([-1, -1, 1]), atol=1e-6)
    for image in images:
        matrix = cameras[image.camera_id].intrinsics()
        np.testing.assert_allclose(matrix, [[150, 0, 82], [0, 140, 58], [0, 0, 1]], rtol=1e-5)
    assert (tmp_path / "output/scene.glb").exists()


def test_known_cameras_need_no_joining_of_windows(da3: Command, scan: Path, tmp_path: Path) -> None:
    result = da3(
        *("auto", scan, "--no-undistort", "--max-views-per-window", "2", "--export-dir", "out"),
        *("--export-format", "mini_npz", *SMALL),
    )
    assert result.exit_code == 0, result.stderr
    assert "COLMAP" in result.stderr
    with np.load(tmp_path / "out/exports/mini_npz/results.npz") as arrays:
        np.testing.assert_allclose(arrays["extrinsics"][:, :3, 3], [[0, 2, 5], [2, 0, 0], [0, 0, 0]], atol=1e-6)
        assert np.isfinite(arrays["depth"]).all()


def test_frames_of_a_video_are_kept_beside_the_results(da3: Command, make_video: MakeVideo, tmp_path: Path) -> None:
    make_video("my clip.mkv", [0, 300, 700, 1000, 1600])
    command = ("my clip.mkv", "--fps", "2", "--start", "0.2", "--export-dir", "out", "--export-format", "mini_npz")
    for kind in ("video", "auto"):
        result = da3(kind, *command, "--yes", *SMALL)
        assert result.exit_code == 0, result.stderr
        names = [path.name for path in sorted((tmp_path / "out/input_images").iterdir())]
        assert names == ["000000.png", "000001.png", "000002.png", "frames.json"]  # at 0.3, 0.7 and 1.0 s
        with np.load(tmp_path / "out/exports/mini_npz/results.npz") as arrays:
            assert [Path(name).name for name in arrays["image_names"]] == names[:3]


def test_a_video_leaves_old_results_until_new_ones_are_ready(
    da3: Command, make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = make_video("v.mkv", [0, 500, 1000])
    command = ("video", video, "--fps", "2", "--export-dir", "out", "--yes", *SMALL, "--export-format")
    assert da3(*command, "mini_npz").exit_code == 0
    before = sorted(tmp_path.glob("out/**/*"))

    def fail(*args: object, **options: object) -> None:
        assert sorted(tmp_path.glob("out/[!.]*")) == [tmp_path / "out/exports", tmp_path / "out/input_images"]
        raise InputError("the model fails")

    with monkeypatch.context() as patch:
        patch.setattr(DepthAnything3, "predict", fail)
        assert da3(*command, "npz").exit_code == 2
    assert sorted(tmp_path.glob("out/**/*")) == before
    result = da3(*command, "npz-colmap", "--export-kwargs", "colmap:copy_images:true")
    assert result.exit_code == 0, result.stderr
    assert not (tmp_path / "out/exports/mini_npz").exists()
    assert sorted(path.name for path in (tmp_path / "out/images").iterdir())[0] == "000000.png"
    with np.load(tmp_path / "out/exports/npz/results.npz") as arrays:
        assert [Path(name) for name in arrays["image_names"]] == sorted((tmp_path / "out/input_images").glob("*.png"))


def test_more_views_than_a_window_takes_are_joined(da3: Command, photos: Path, tmp_path: Path) -> None:
    command = ("images", photos, "--export-format", "mini_npz", *SMALL, "--export-dir")
    assert da3(*command, "one").exit_code == 0
    result = da3(*command, "two", "--max-views-per-window", "2")
    assert "3 views are processed in 2 windows of 2" in result.stderr
    one, two = (dict(np.load(tmp_path / name / "exports/mini_npz/results.npz")) for name in ("one", "two"))
    assert {name: array.shape for name, array in one.items()} == {name: array.shape for name, array in two.items()}
    assert one["image_names"].tolist() == two["image_names"].tolist()


def test_the_command_lines_of_the_usage_guide_work_word_for_word(
    da3: Command, photos: Path, make_video: MakeVideo, tmp_path: Path
) -> None:
    Image.open(photos / "1.png").save(tmp_path / "p.jpg")
    (tmp_path / "dataset").mkdir()
    Image.open(photos / "1.png").save(tmp_path / "dataset/1.webp")
    make_video("v.mkv", [0], size=(12, 64)).rename(tmp_path / "v.mp4")
    for line, written in (
        ("image p.jpg --export-dir ./output --export-format mini_npz-glb", "exports/mini_npz/results.npz"),
        ('images ./dataset --export-dir ./output --image-extensions "png,jpg,webp"', "scene.glb"),
        ("video v.mp4 --fps 2.0 --export-dir ./output --export-format glb --process-res 756", "scene.glb"),
        ("auto ./dataset --export-dir ./output --export-format mini_npz", "exports/mini_npz/results.npz"),
    ):
        command, *rest = shlex.split(line)
        result = da3(command, *SMALL, *rest)
        assert result.exit_code == 0, result.stderr
        assert (tmp_path / "output" / written).exists()
        shutil.rmtree(tmp_path / "output")


def test_an_existing_result_is_replaced_only_when_asked_to(da3: Command, photos: Path, tmp_path: Path) -> None:
    command = ("image", photos / "1.png", "--export-dir", "out", "--export-format", "mini_npz", *SMALL)
    assert da3(*command).exit_code == 0
    (tmp_path / "out/stale.txt").touch()

    refused = da3(*command)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--auto-cleanup" in refused.stderr
    refused = da3(*command, "--export-dir", photos, "--auto-cleanup")
    assert "would delete the input" in refused.stderr
    assert "give another --export-dir, or use --overwrite" in refused.stderr
    assert da3(*command, "--overwrite").exit_code == 0
    assert (tmp_path / "out/stale.txt").exists()
    assert da3(*command, "--auto-cleanup").exit_code == 0
    assert not (tmp_path / "out/stale.txt").exists()


def test_a_failed_run_deletes_no_earlier_result(da3: Command, photos: Path, tmp_path: Path) -> None:
    command = ("--export-dir", "out", "--export-format", "mini_npz", "--yes", *SMALL)
    assert da3("image", photos / "1.png", *command).exit_code == 0
    broken = photos / "broken.png"
    broken.write_bytes((photos / "1.png").read_bytes()[:2000])  # its header is intact

    result = da3("image", broken, *command)
    assert result.exit_code == 2
    assert "broken.png" in result.stderr
    assert (tmp_path / "out/exports/mini_npz/results.npz").exists()


REFUSED: dict[str, tuple[tuple[str, ...], int, str]] = {
    "missing image": (("image", "none.png"), 2, "none.png (no such file"),
    "missing input": (("auto", "none"), 1, "does not exist: give an image file"),
    "unknown kind": (("auto", "my photos/notes.txt"), 1, "of no known kind"),
    "no image": (("image", "my photos/notes.txt"), 2, "not an image"),
    "file as folder": (("images", "my photos/1.png"), 2, "is not a folder"),
    "no such extension": (("images", "my photos", "--image-extensions", "bmp"), 2, "no images in my photos"),
    "unknown extension": (("images", "my photos", "--image-extensions", "exe"), 2, "list some of png"),
    "unknown format": (("images", "my photos", "--export-format", "glb-obj"), 2, "'obj'"),
    "unknown option of a format": (("images", "my photos", "--export-kwargs", "glb:colour:red"), 2, "'colour'"),
    "malformed option": (("images", "my photos", "--export-kwargs", "glb"), 2, "FORMAT:KEY:VALUE"),
    "no number": (("images", "my photos", "--export-feat", "one"), 2, "block numbers"),
    "no such layer": (("images", "my photos", "--export-feat", "12"), 2, "0 to 11"),
    "features without layers": (("images", "my photos", "--export-format", "feat_vis"), 2, "feat_vis"),
    "splats from a small model": (("images", "my photos", "--export-format", "gs_ply"), 2, "gs_ply"),
    "windows of one view": (("images", "my photos", "--max-views-per-window", "1"), 2, "2"),
    "empty video": (("video", "my photos/notes.txt"), 2, "not a video"),
    "no reconstruction": (("colmap", "my photos"), 2, "images is not a folder"),
    "unknown model": (("images", "my photos", "--model-dir", "da4"), 2, "da3-small"),
    "refused licence": (
        ("images", "my photos", "--model-dir", "da3-large", "--weights-licence", "permissive"), 2, "CC-BY-NC-4.0",
    ),
    "unknown device": (("images", "my photos", "--device", "abacus"), 1, "use auto, cpu, cuda"),
    "unknown strategy": (("images", "my photos", "--ref-view-strategy", "empty"), 2, "saddle_balanced"),
    "tiny size": (("images", "my photos", "--process-res", "7"), 2, "14"),
    "input as export folder": (("images", "my photos", "--export-dir", "my photos", "--force-cleanup"), 2, "delete"),
    "current folder": (("images", "my photos", "--export-dir", ".", "--force-cleanup"), 2, "delete"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_ends_with_one_sentence_and_writes_nothing(
    da3: Command, photos: Path, tmp_path: Path, case: str
) -> None:
    arguments, exit_code, sentence = REFUSED[case]
    defaults = [*SMALL, "--export-dir", "out"]
    for given in {"--model-dir", "--device", "--process-res", "--export-dir"} & set(arguments):
        index = defaults.index(given)
        del defaults[index : index + 2]

    result = da3(*arguments, *defaults)
    assert result.exit_code == exit_code, result.stderr
    assert result.stdout == ""
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my photos"]
    assert len(list(photos.iterdir())) == 5


def test_a_gpu_that_is_not_there_is_refused_before_the_model_is_loaded(da3: Command, photos: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    result = da3("image", photos / "1.png", "--model-dir", "untrained:da3-giant", "--device", "cuda")
    assert result.exit_code == 1
    assert result.stderr == "error: device 'cuda' is asked for, but PyTorch finds 0 of its kind: use auto or cpu\n"


def test_debug_shows_where_a_failure_happened(da3: Command) -> None:
    assert "Traceback" in da3("image", "none.png", "--debug").stderr


def test_intrinsics_are_those_of_the_original_image_unless_asked_otherwise(
    da3: Command, photos: Path, tmp_path: Path
) -> None:
    original = da3("intrinsics", "--image", photos / "1.png", *SMALL)
    assert original.exit_code == 0, original.stderr
    matrix = np.loadtxt(tmp_path / "K.txt")
    assert matrix[:, 2].tolist() == [80, 60, 1]  # the centre of 160 x 120
    assert f"fx {matrix[0, 0]:.2f}  fy {matrix[1, 1]:.2f}  cx 80.00  cy 60.00" in original.stdout

    assert (
        da3("intrinsics", "--image", photos / "1.png", *SMALL, "--at-process-res", "--output", "P.txt").exit_code == 0
    )
    processed = np.loadtxt(tmp_path / "P.txt")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (80, 60)).save(photos / "turned.jpg", exif=turned)
    for extra, size in (((), (80, 60)), (("--apply-exif",), (60, 80))):
        told = json.loads(
            da3("intrinsics", "--image", photos / "turned.jpg", "--focal-px", "99", "--json", *extra).stdout
        )
        assert (told["width"], told["height"]) == size
        assert np.array(told["intrinsics"])[:2, 2].tolist() == [size[0] / 2, size[1] / 2]
    (photos / "turned.jpg").unlink()
    told = json.loads(da3("intrinsics", "--image", photos / "1.png", "--focal-px", "99", "--json").stdout)
    assert (told["intrinsics"][0], told["source"], told["width"]) == ([99, 0, 80], "known", 160)
    np.testing.assert_allclose(processed, np.diag([70 / 160, 56 / 120, 1]) @ matrix, atol=2e-6)


def test_intrinsics_without_a_place_for_them_are_refused(da3: Command, photos: Path) -> None:
    result = da3("intrinsics", "--image", photos / "1.png", "--output", "none/K.txt", *SMALL)
    assert result.exit_code == 2
    assert "none/K.txt does not exist" in result.stderr


def test_grey_transparent_and_deep_images_are_accepted(da3: Command, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    ramp = np.linspace(0, 1, 64 * 48).reshape(48, 64)
    Image.fromarray((ramp * 255).astype(np.uint8)).save(tmp_path / "in/grey.png")
    Image.fromarray((ramp * 65535).astype(np.uint16)).save(tmp_path / "in/deep.tiff")
    Image.fromarray(np.stack([(ramp * 255).astype(np.uint8)] * 4, axis=-1)).save(tmp_path / "in/transparent.png")
    result = da3("auto", "in", "--export-dir", "out", "--export-format", "npz", *SMALL)
    assert result.exit_code == 0, result.stderr
    with np.load(tmp_path / "out/exports/npz/results.npz") as arrays:
        images = arrays["image"].astype(int)
    assert np.abs(images[0] - images[1]).max() <= 2


def test_a_view_that_cannot_be_placed_is_named_and_takes_nothing_from_the_others(tmp_path: Path, da3: Command) -> None:
    walk = room_walk(48, (120, 160))
    (tmp_path / "views").mkdir()
    for name, image in (("0", walk.images[0]), ("1", walk.images[1]), ("2", np.full_like(walk.images[0], 128))):
        Image.fromarray(image).save(tmp_path / f"views/{name}.png")
    chosen = ("--model-dir", "embedded", "--export-dir", "out")
    result = da3("images", "views", *chosen, "--export-format", "depth_vis-tum-glb-mini_npz")
    assert result.exit_code == 1
    [line] = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert line == "error: view 2 (2.png) of 3 could not be placed and has no pose in tum, glb, mini_npz"
    assert all(Path(path).exists() for path in result.stdout.splitlines())
    assert np.loadtxt(tmp_path / "out/trajectory.txt")[:, 0].tolist() == [0, 1]
    assert len(list((tmp_path / "out/depth_vis").iterdir())) == 3


def test_depth_can_have_the_size_of_the_images(da3: Command, photos: Path, tmp_path: Path) -> None:
    asked = ("--depth-size", "input", "--export-format", "mini_npz")
    result = da3("image", photos / "1.png", "--export-dir", "out", *asked, *SMALL)
    assert result.exit_code == 0, result.stderr
    with np.load(tmp_path / "out/exports/mini_npz/results.npz") as arrays:
        assert arrays["depth"].shape == arrays["conf"].shape == (1, 120, 160)
        assert (arrays["depth"] > 0).all()
        assert arrays["intrinsics"][0][:2, 2].tolist() == [80, 60]
