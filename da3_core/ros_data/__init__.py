# SPDX-License-Identifier: Apache-2.0
"""What ROS messages hold, without ROS: numbers and arrays that the live node and bags share."""
