# SPDX-License-Identifier: Apache-2.0
"""The web app of `da3 gradio`: images or a video in, a point cloud, depth and measurements out, in a browser.

Only `layout`, `handlers`, `shown` and `launch` know Gradio; everything else works, and is tested, without it.
"""
