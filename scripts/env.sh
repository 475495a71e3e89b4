# SPDX-License-Identifier: Apache-2.0
# Source this in bash: the environment in which this checkout's Python, tests and nodes run.
da3_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ -n "${ROS_DISTRO:-}" ] && [ -f "$da3_root/install/local_setup.bash" ]; then
  . "$da3_root/install/local_setup.bash"
else
  export AMENT_PREFIX_PATH="$da3_root/.venv"
fi
export PATH="$da3_root/.venv/bin:$PATH"
# The sources of this checkout before their installed links, which lack files that are newer than the last build.
export PYTHONPATH="$da3_root${PYTHONPATH:+:$PYTHONPATH}"
# Best-effort images are lost in Fast DDS's default shared memory; the two names serve Kilted and Jazzy.
if [ -z "${FASTDDS_DEFAULT_PROFILES_FILE:-}${FASTRTPS_DEFAULT_PROFILES_FILE:-}" ]; then
  if [ "${ROS_DISTRO:-${DA3_ROS_WHEELS:-kilted}}" = jazzy ]; then
    export FASTRTPS_DEFAULT_PROFILES_FILE="$da3_root/config/fastdds_shm.xml"
  else
    export FASTDDS_DEFAULT_PROFILES_FILE="$da3_root/config/fastdds_shm.xml"
  fi
fi
