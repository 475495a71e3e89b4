# SPDX-License-Identifier: Apache-2.0
"""What is served over HTTP: the backend, the gallery and the web app, and what they have in common."""
