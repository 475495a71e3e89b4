# SPDX-License-Identifier: Apache-2.0
# Sourced from the repository root: the environment in which its Python, tests and nodes run.
if [ -n "${ROS_DISTRO:-}" ] && [ -f install/local_setup.bash ]; then
  . install/local_setup.bash
else
  export AMENT_PREFIX_PATH="$PWD/.venv"
fi
export PATH="$PWD/.venv/bin:$PATH"
# The sources of this checkout before their installed links, which lack files that are newer than the last build.
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
# Best-effort images are lost in Fast DDS's default shared memory; the two names serve Kilted and Jazzy.
if [ -z "${FASTDDS_DEFAULT_PROFILES_FILE:-}${FASTRTPS_DEFAULT_PROFILES_FILE:-}" ]; then
  if [ "${ROS_DISTRO:-${DA3_ROS_WHEELS:-kilted}}" = jazzy ]; then
    export FASTRTPS_DEFAULT_PROFILES_FILE="$PWD/config/fastdds_shm.xml"
  else
    export FASTDDS_DEFAULT_PROFILES_FILE="$PWD/config/fastdds_shm.xml"
  fi
fi
