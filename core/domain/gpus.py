"""GPUs: one name per model, what it can hold and compute. Facts from the vendors' data sheets; pure.

Figures are dense half-precision tensor TFLOPS with FP32 accumulation (BF16, on Volta and Turing FP16): public tables
often print the sparse or the FP16-accumulate figure, which is twice as much.
"""

from __future__ import annotations

import re

# canonical name -> (VRAM GB, dense TFLOPS). Source: NVIDIA and AMD data sheets and architecture white papers.
SPECS: dict[str, tuple[int, float]] = {
    "T4": (16, 65.0),
    "V100 16GB": (16, 125.0),
    "V100 32GB": (32, 125.0),
    "A10": (24, 125.0),
    "A40": (48, 149.7),
    "A100 40GB": (40, 312.0),
    "A100 80GB": (80, 312.0),
    "H100 SXM": (80, 989.0),
    "H100 PCIe": (80, 756.0),
    "H100 NVL": (94, 835.0),
    "H200": (141, 989.0),
    "B200": (180, 2250.0),
    "B300": (270, 2250.0),
    "L4": (24, 121.0),
    "L40": (48, 181.0),
    "L40S": (48, 362.0),
    "RTX 3060": (12, 25.5),
    "RTX 3080": (10, 59.5),
    "RTX 3090": (24, 71.0),
    "RTX 4080": (16, 97.5),
    "RTX 4090": (24, 165.2),
    "RTX 5080": (16, 112.6),
    "RTX 5090": (32, 209.5),
    "RTX A4000": (16, 76.7),
    "RTX A5000": (24, 111.1),
    "RTX A6000": (48, 154.8),
    "RTX 6000 Ada": (48, 364.0),
    "RTX PRO 6000 WS": (96, 503.8),
    "RTX PRO 6000 S": (96, 480.0),
    "MI300X": (192, 1307.0),
}

_PLAIN = {re.sub(r"[^a-z0-9]", "", name.casefold()): name for name in SPECS}
_ALIASES = {
    "h100sxm5": "H100 SXM",
    "h10080gbhbm3": "H100 SXM",
    "h100": "H100 SXM",
    "h200sxm": "H200",
    "rtx6000ada": "RTX 6000 Ada",
    "teslat4": "T4",
    "rtxpro6000ws": "RTX PRO 6000 WS",
    "rtxpro6000s": "RTX PRO 6000 S",
}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold().replace("nvidia", "").replace("geforce", ""))


def canonical(name: str, vram_mib: int | None = None) -> str:
    """The one name of a model, where names lie decided by the VRAM reported; an unknown model keeps its name."""
    plain = _plain(name)
    if plain.startswith(("a100", "teslaa100")):
        return "A100 40GB" if vram_mib is not None and vram_mib < 60_000 else "A100 80GB"
    if plain.startswith(("v100", "teslav100")):
        return "V100 32GB" if vram_mib is not None and vram_mib > 20_000 else "V100 16GB"
    return _PLAIN.get(plain) or _ALIASES.get(plain) or name


def tflops(name: str, vram_mib: int | None = None) -> float | None:
    """Dense half-precision TFLOPS of one GPU; None when unknown."""
    spec = SPECS.get(canonical(name, vram_mib))
    return None if spec is None else spec[1]


def matches(name: str, wanted: str) -> bool:
    """Whether an operator's word for a GPU ("4090", "a100", "rtx_4090") means this model.

    A word is taken as whole: "A10" is not "A100", "H100" is any H100.
    """
    have, want = _plain(name), _plain(wanted)
    if not want or have == want or canonical(name) == canonical(wanted):
        return True
    at = have.find(want)
    while at >= 0:
        before, after = have[at - 1 : at], have[at + len(want) : at + len(want) + 1]
        if not (want[0].isdigit() and before.isdigit()) and not (want[-1].isdigit() and after.isdigit()):
            return True
        at = have.find(want, at + 1)
    return False
