# SPDX-License-Identifier: Apache-2.0
"""Images get to a worker as they are: read at their places where these hold the same, else as they travelled."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from da3_core.cluster.images import BagPlace, Content, FilePlace, ImageReader, Unreachable, content_of, place_of
from da3_core.errors import ImageError, OptionError
from da3_core.stream.frame import Frame
from da3_core.synthetic import Walk
from da3_core.synthetic.bag import write_bag


def test_file_is_read_at_its_place_unless_it_is_another(tmp_path: Path) -> None:
    path = tmp_path / "1.png"
    Image.fromarray(np.full((8, 9, 3), 7, np.uint8)).save(path)
    place, reader = place_of(path), ImageReader()
    assert reader.read([place], []) == [path]
    what, data = Content(place), content_of(path)
    os.utime(path, ns=(1, 1))
    for gone in (False, True):
        if gone:
            path.unlink()
        with pytest.raises(Unreachable):
            reader.read([place], [])
    [copy] = reader.read([what], [data])
    assert (copy.suffix, copy.read_bytes()) == (".png", data)


def test_pixels_travel_without_loss(walk: Walk) -> None:
    frames = [Frame(image) for image in walk.images[:2]]
    assert place_of(frames[0]) is None
    sent, contents = [Content(0), Content(1)], list(map(content_of, frames))
    for image, frame in zip(ImageReader().read(sent, contents), frames, strict=True):
        np.testing.assert_array_equal(image, frame.image)
    assert sum(map(len, contents)) < 0.8 * walk.images[:2].nbytes


def test_image_of_a_bag_is_read_from_it_unless_its_pixels_are_others(walk: Walk, tmp_path: Path) -> None:
    pytest.importorskip("rosbags", reason="needs the package rosbags")
    from da3_core.bag.camera import RecordedCamera
    from da3_core.bag.options import BagOptions
    from da3_core.bag.read import BagReader

    bag = write_bag(walk, tmp_path / "walk")
    options = BagOptions(duration_s=0.5)
    with BagReader(bag) as opened:
        frames = [each.frame for [each] in RecordedCamera(opened, options).frame_sets(set(), lambda message: None)]
    places = [place_of(frame) for frame in frames]
    assert all(isinstance(place, BagPlace) for place in places)
    for image, frame in zip(ImageReader().read(places[1:4], []), frames[1:4], strict=True):
        np.testing.assert_array_equal(image, frame.image)
    with pytest.raises(Unreachable, match="other pixels"):
        ImageReader().read([replace(places[0], checksum=1)], [])
    elsewhere = replace(places[0], pixels=replace(places[0].pixels, bag=tmp_path / "none"))
    with pytest.raises(Unreachable, match="does not exist"):
        ImageReader().read([elsewhere], [])
    with pytest.raises(Unreachable):
        ImageReader().read([replace(places[0], pixels=replace(places[0].pixels, time_ns=5))], [])


def test_mixed_images_keep_their_order(walk: Walk, tmp_path: Path) -> None:
    path = tmp_path / "1.png"
    Image.fromarray(walk.images[0]).save(path)
    first, second = ImageReader().read([FilePlace.of(path), Content(0)], [content_of(Frame(walk.images[1]))])
    assert first == path
    np.testing.assert_array_equal(second, walk.images[1])


def test_refusals_cross_processes() -> None:
    option = OptionError("{process_res} is {given}: give {limits}", given=3, limits="more")
    crossed = pickle.loads(pickle.dumps(option))
    assert (str(crossed), crossed.spelled(lambda name: f"--{name}")) == (str(option), "--process_res is 3: give more")
    image = pickle.loads(pickle.dumps(ImageError(4, "image 4 is no image")))
    assert (image.index, str(image)) == (4, "image 4 is no image")
