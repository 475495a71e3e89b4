# SPDX-License-Identifier: Apache-2.0
"""Recorded images in, recorded depth out: bags of ROS 1 and ROS 2, without ROS, by the package `rosbags`.

`read` opens bags, `camera` takes images out of them, `windows` cuts these as the live node does, `messages` packs what
a session makes of them, `write` writes it, and `process` is the whole.
"""
