# SPDX-License-Identifier: Apache-2.0
"""Many scenes with one model in memory: `da3 backend` in one terminal, and in another

    python examples/batch_with_backend.py http://localhost:8008 scenes/ results/

Every folder in scenes/ is a scene. All are handed over at once; the backend takes one after the other.
"""

import sys
from pathlib import Path

from da3_core.web.backend.client import BackendClient

backend = BackendClient(sys.argv[1])
scenes, results = Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve()

tasks = {}
for scene in sorted(path for path in scenes.iterdir() if path.is_dir()):
    images = sorted(str(path) for path in scene.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    request = {"image_paths": images, "export_dir": str(results / scene.name), "export_format": "mini_npz-glb"}
    tasks[scene.name] = backend.submit(request)

failed = []
for name, task_id in tasks.items():
    while (task := backend.next_status(task_id))["status"] in ("pending", "running"):
        pass
    print(f"{name}: {task['status']}, {task['message']}")
    if task["status"] != "completed":
        failed.append(name)
sys.exit(1 if failed else 0)
