#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
set -e
. "/opt/ros/$ROS_DISTRO/setup.bash"
. /opt/ws/install/setup.bash
exec "$@"
