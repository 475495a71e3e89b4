# SPDX-License-Identifier: Apache-2.0
"""Recorded images in, recorded depth out: bags of ROS 1 and ROS 2, without ROS, by the package `rosbags`.

`read` opens bags, `topics` chooses in them, `camera` takes images out of them, `rig` those of several cameras,
`transforms` says where these are, `windows` cuts them as the live node does, `inference` shows them to a model,
`messages` packs what a session makes of them, `copies` adds what was recorded, `write` writes it, and `process` is the
whole.
"""
