# SPDX-License-Identifier: Apache-2.0
"""The one exception for what a user can put right."""


class InputError(ValueError):
    """A refused input. Its text is one sentence for a person: what was received, what is allowed, the remedy.

    The command line prints it and exits, the node logs it and lives on; neither shows a traceback.
    """
