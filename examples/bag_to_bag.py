# SPDX-License-Identifier: Apache-2.0
"""A bag with images to a bag with depth, which is then read: `python examples/bag_to_bag.py drive/ drive_depth/`.

ROS is not needed; more arguments go to `da3 bag`.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from rosbags.highlevel import AnyReader

bag, depth_bag = Path(sys.argv[1]), Path(sys.argv[2])
subprocess.run(["da3", "bag", bag, "--output-bag", depth_bag, *sys.argv[3:]], check=True)

with AnyReader([depth_bag]) as reader:  # a bag carries the definitions of its own messages
    depth_topic = [each for each in reader.connections if each.topic == "/da3/depth/image"]
    for connection, _, raw in reader.messages(depth_topic):
        message = reader.deserialize(raw, connection.msgtype)
        depth = message.data.view(np.float32).reshape(message.height, message.width)
        stamp = message.header.stamp
        print(f"{stamp.sec}.{stamp.nanosec:09d}: {np.nanmedian(depth):.2f} in the middle of all depths")
