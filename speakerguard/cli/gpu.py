"""Which GPUs a build of torch has code for."""

from __future__ import annotations

import re


def runs_on(capability: tuple[int, int], architectures: list[str]) -> bool:
    """Whether a build with code for ``architectures`` runs on a GPU of this capability.

    Machine code (``sm_86``) runs on the same major version from its minor version up, intermediate
    code (``compute_90``) on everything newer (CUDA C++ Programming Guide, Compute Capability).

    >>> runs_on((9, 0), ["sm_80"]), runs_on((8, 6), ["sm_80"]), runs_on((9, 0), ["compute_80"])
    (False, True, True)
    """
    for architecture in architectures:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", architecture)
        if not match:
            continue
        built = (int(match[2]), int(match[3]))
        if match[4] == "a":  # for this very chip
            fits = built == capability
        elif match[1] == "sm":
            fits = built[0] == capability[0] and built[1] <= capability[1]
        else:
            fits = built <= capability
        if fits:
            return True
    return False
