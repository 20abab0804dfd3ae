"""The lab's nvidia-smi, compiled into every machine.

One rule: it only formats; the figures come from the meter's state file.

Runs as `python -I -S smi.pyc` with nothing imported but sys, os.path and time, because it starts once a call. Formats,
field names, sentences and exit codes are those of drivers 555 to 590; what it prints is simulated and is labelled so by
its reader.
"""

from __future__ import annotations

import sys
import time
from os import path

STATE = path.realpath(sys.argv[0]).rpartition("/bin/")[0] + "/gpu"  # pathlib would cost 4 ms a call
DEPRECATED = "[Requested functionality has been deprecated]"
BROKEN_PIPE = 141  # as a shell sees the death by SIGPIPE that the real tool dies
INTERRUPTED = 130

# Exit codes of nvidia-smi(1); 18 is NVML_ERROR_LIB_RM_VERSION_MISMATCH.
BAD_ARGUMENT, NOT_FOUND, NO_DRIVER, LOST, MISMATCH = 2, 6, 9, 15, 18

Row = dict[str, str]
# Fields without a unit. NAME: from the state file; NAME=VALUE: constant (= followed by N, D: [N/A], deprecated).
PLAIN = """
timestamp driver_version count index name serial==N uuid pci.bus_id pci.domain=0x0000 pci.bus pci.device=0x00
pci.device_id pstate compute_cap compute_mode=Default pcie.link.gen.current=4 pcie.link.gen.max=4
pcie.link.gen.gpucurrent=4 pcie.link.gen.gpumax=4 pcie.link.gen.hostmax=4 pcie.link.width.current=16
pcie.link.width.max=16 display_mode==D display_active=Disabled display_attached=No persistence_mode=Enabled
accounting.mode=Disabled accounting.buffer_size=4000 vbios_version gom.current==N gom.pending==N
driver_model.current==N driver_model.pending==N inforom.img==N inforom.oem==N inforom.ecc==N inforom.pwr==N
addressing_mode=None gpu_recovery_action=None temperature.gpu temperature.memory==N temperature.gpu.tlimit==N
ecc.mode.current ecc.mode.pending mig.mode.current mig.mode.pending==N power.management==D fabric.state==N
fabric.status==N gsp.mode.current=Enabled gsp.mode.default=Enabled c2c.mode==N retired_pages.pending==N
ecc.errors.uncorrected.volatile.total==N ecc.errors.corrected.volatile.total==N
ecc.errors.uncorrected.aggregate.total==N ecc.errors.corrected.aggregate.total==N remapped_rows.correctable==N
remapped_rows.uncorrectable==N remapped_rows.pending==N remapped_rows.failure==N
clocks_event_reasons.supported=0x00000000000001FF clocks_event_reasons.active=0x0000000000000000
"""
REASONS = (
    "gpu_idle applications_clocks_setting sw_power_cap hw_slowdown hw_thermal_slowdown hw_power_brake_slowdown "
    "sw_thermal_slowdown sync_boost"
)
WITH_UNIT = {
    "MiB": "memory.total memory.used memory.free memory.reserved protected_memory.total==N protected_memory.used==N",
    "%": "utilization.gpu utilization.memory utilization.encoder=0 utilization.decoder=0 utilization.jpeg=0 "
    "utilization.ofa=0 fan.speed",
    "W": "power.draw power.draw.average=@power.draw power.draw.instant=@power.draw power.limit "
    "enforced.power.limit=@power.limit power.default_limit=@power.limit power.min_limit power.max_limit=@power.limit",
    "MHz": "clocks.current.graphics clocks.current.sm=@clocks.current.graphics clocks.current.memory "
    "clocks.current.video clocks.max.graphics clocks.max.sm=@clocks.max.graphics clocks.max.memory "
    "clocks.applications.graphics==D clocks.applications.memory==D",
}
# Other names of the same field; the header shows the canonical one.
ALIASES = {
    "gpu_name": "name", "gpu_uuid": "uuid", "gpu_bus_id": "pci.bus_id", "gpu_serial": "serial", "fan": "fan.speed",
    "clocks.gr": "clocks.current.graphics", "clocks.sm": "clocks.current.sm", "clocks.mem": "clocks.current.memory",
    "clocks.video": "clocks.current.video", "clocks.max.gr": "clocks.max.graphics",
    "clocks.max.mem": "clocks.max.memory",
}  # fmt: skip
APP_FIELDS = {
    "pid": "", "process_name": "", "gpu_uuid": "", "gpu_name": "", "gpu_serial": "", "gpu_bus_id": "", "timestamp": "",
    "used_gpu_memory": "MiB",
}  # fmt: skip
APP_ALIASES = {"used_memory": "used_gpu_memory", "name": "process_name"}

HELP = """NVIDIA System Management Interface -- simulated by the Understudy lab

    -h, --help   -L, --list-gpus   -i, --id=LIST   -l, --loop=SECONDS   -lms, --loop-ms=MILLISECONDS
    --query-gpu=FIELDS   --query-compute-apps=FIELDS   --format=csv[,noheader][,nounits]
"""


NO_DRIVER_WORDS = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running.\n"
)


class Stop(Exception):
    """Print this on stdout, as nvidia-smi does with its errors too, and exit with the code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Options:
    """The command line, with nvidia-smi's defaults."""

    def __init__(self) -> None:
        self.gpu_fields: list[str] = []
        self.app_fields: list[str] = []
        self.formats: list[str] = []
        self.ids: list[str] = []
        self.lists = False
        self.every_s = 0.0

    def take(self, name: str, value: str) -> None:
        """One option that has a value."""
        if name == "--query-gpu":
            self.gpu_fields = _words(value)
        elif name in ("--query-compute-apps", "--query-accounted-apps"):
            self.app_fields = _words(value)
        elif name == "--format":
            self.formats = _words(value)
            for word in self.formats:
                if word not in ("csv", "noheader", "nounits"):
                    raise Stop(BAD_ARGUMENT, f'Invalid format "{word}" to --format= option.')
        elif name in ("-i", "--id"):
            self.ids = _words(value)
        else:
            self.every_s = _seconds(name, value)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _seconds(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise Stop(BAD_ARGUMENT, f'Invalid value "{value}" to {name} option.') from None
    if number <= 0:
        raise Stop(BAD_ARGUMENT, f'Invalid value "{value}" to {name} option.')
    return number / 1000 if name in ("-lms", "--loop-ms") else number


VALUED = (
    "--query-gpu",
    "--query-compute-apps",
    "--query-accounted-apps",
    "--format",
    "-i",
    "--id",
    "-lms",
    "--loop-ms",
)
LOOPS = ("-l", "--loop")  # their value may be left out: 5 s


def parse(arguments: list[str]) -> Options:
    """Raises Stop."""
    options = Options()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, given, value = word.partition("=")
        if name in VALUED:
            if not given and not rest:
                raise Stop(BAD_ARGUMENT, f"ERROR: Option {word} requires an argument.")
            options.take(name, value if given else rest.pop(0))
        elif name in LOOPS:
            has_value = given or (rest and rest[0].replace(".", "", 1).isdigit())
            options.take(name, (value if given else rest.pop(0)) if has_value else "5")
        elif name in ("-L", "--list-gpus"):
            options.lists = True
        elif name in ("-h", "--help"):
            raise Stop(0, HELP)
        elif name in ("-q", "-x", "--query", "--xml-format"):  # not simulated
            raise Stop(BAD_ARGUMENT, "Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.\n")
        else:
            raise Stop(BAD_ARGUMENT, f"ERROR: Option {word} is not recognized. Please run 'nvidia-smi -h'.\n")
    if (options.gpu_fields or options.app_fields) and "csv" not in options.formats:
        raise Stop(BAD_ARGUMENT, "\"--format=\" switch is missing. Please run 'nvidia-smi -h' for help.\n")
    return options


def fields() -> dict[str, tuple[str, str]]:
    """Canonical name -> (constant or "", unit). Built only for a query."""
    found = {}
    for unit, text in (("", PLAIN), *WITH_UNIT.items()):
        for entry in text.split():
            name, _, constant = entry.partition("=")
            found[name] = (constant, unit)
    for reason in REASONS.split():
        found["clocks_event_reasons." + reason] = ("Not Active", "")
    return found


def read_state() -> tuple[Row, list[Row], list[Row]]:
    """(driver lines, GPUs, processes) as the meter wrote them last. Raises Stop when there is no driver."""
    head: Row = {}
    gpus: list[Row] = []
    apps: list[Row] = []
    try:
        with open(STATE) as file:
            lines = file.read().splitlines()
    except OSError:
        raise Stop(NO_DRIVER, NO_DRIVER_WORDS) from None
    for line in lines:
        kind, _, rest = line.partition(" ")
        if kind in ("gpu", "app"):
            row = dict(pair.split("=", 1) for pair in rest.split("\t"))
            (gpus if kind == "gpu" else apps).append(row)
        elif kind:
            head[kind] = rest
    return head, gpus, apps


def check_fault(head: Row, gpus: list[Row]) -> None:
    """Fail as the real tool fails. Raises Stop."""
    fault = head.get("fault", "")
    while fault == "hang":  # a real one hangs in the kernel and cannot be killed; this one can
        time.sleep(3600)
    if fault == "mismatch":
        library = head.get("driver_version", "").rsplit(".", 1)[0]
        words = "Failed to initialize NVML: Driver/library version mismatch"
        raise Stop(MISMATCH, f"{words}\nNVML library version: {library}")
    if fault == "lost" and gpus:
        words = f"Unable to determine the device handle for GPU0: {gpus[0]['pci.bus_id']}"
        raise Stop(LOST, f"{words}: GPU is lost.  Reboot the system to recover this GPU")
    if fault == "none" or not gpus:
        raise Stop(NOT_FOUND, "No devices were found")


def now() -> str:
    at = time.time()
    return time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(at)) + f".{int(at % 1 * 1000):03d}"


def _title(name: str, unit: str) -> str:
    return f"{name} [{unit}]" if unit else name


def _cell(value: str, unit: str, options: Options) -> str:
    return value if not unit or "nounits" in options.formats or value.startswith("[") else f"{value} {unit}"


def _gpu_value(name: str, known: dict[str, tuple[str, str]], gpu: Row, head: Row, count: int) -> str:
    constant = known[name][0]
    if constant.startswith("@"):
        name, constant = constant[1:], ""
    if constant:
        return {"=N": "[N/A]", "=D": DEPRECATED}.get(constant, constant)
    if name == "timestamp":
        return now()
    if name == "count":
        return str(count)
    return gpu.get(name) or head.get(name) or "[N/A]"


def query_gpus(options: Options, head: Row, gpus: list[Row], *, header: bool) -> list[str]:
    """CSV of --query-gpu. Raises Stop for an unknown field."""
    known = fields()
    shown, names = [], []
    for asked in options.gpu_fields:
        shown.append(ALIASES.get(asked, asked))
        # drivers before 555 called them throttle reasons; the header keeps the name that was asked for
        names.append(shown[-1].replace("clocks_throttle_reasons.", "clocks_event_reasons."))
        if names[-1] not in known:
            raise Stop(BAD_ARGUMENT, f'Field "{asked}" is not a valid field to query.\n')
    lines = [", ".join(_title(s, known[n][1]) for s, n in zip(shown, names, strict=True))] if header else []
    for gpu in gpus:
        cells = [_cell(_gpu_value(n, known, gpu, head, len(gpus)), known[n][1], options) for n in names]
        lines.append(", ".join(cells))
    return lines


def query_apps(options: Options, gpus: list[Row], apps: list[Row], *, header: bool) -> list[str]:
    """CSV of --query-compute-apps; no row when nothing runs. Raises Stop for an unknown field."""
    names = [APP_ALIASES.get(name, name) for name in options.app_fields]
    for asked, name in zip(options.app_fields, names, strict=True):
        if name not in APP_FIELDS:
            raise Stop(BAD_ARGUMENT, f'Field "{asked}" is not a valid field to query.\n')
    lines = [", ".join(_title(n, APP_FIELDS[n]) for n in names)] if header else []
    by_uuid = {gpu["uuid"]: gpu for gpu in gpus}
    for app in apps:
        gpu = by_uuid[app["gpu_uuid"]]
        about = {**app, "gpu_name": gpu["name"], "gpu_bus_id": gpu["pci.bus_id"], "timestamp": now()}
        lines.append(", ".join(_cell(about.get(n, "[N/A]"), APP_FIELDS[n], options) for n in names))
    return lines


EDGE = "+" + "-" * 89 + "+"
SPLIT = "+" + "-" * 41 + "+" + "-" * 24 + "+" + "-" * 22 + "+"


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def _three(left: str, middle: str, right: str) -> str:
    return f"|{left:<41}|{middle:>24}|{right:>22}|"


def _gpu_lines(gpu: Row) -> list[str]:
    fan = gpu["fan.speed"] + "%" if gpu["fan.speed"].isdigit() else "N/A"
    watts = f"{float(gpu['power.draw']):.0f}W / {float(gpu['power.limit']):>4.0f}W"
    left = f" {fan:>3}   {gpu['temperature.gpu'] + 'C':>4}    {gpu['pstate']:<4}   {watts:>18} "
    memory = f"{gpu['memory.used']:>7}MiB / {gpu['memory.total']:>6}MiB "
    ecc = "0" if gpu["ecc.mode.current"] == "Enabled" else "N/A"
    mig = gpu["mig.mode.current"].strip("[]")
    title = f" {gpu['index']:>3}  {_fit(gpu['name'], 25):<25}      On "
    return [
        _three(title, f"{gpu['pci.bus_id']:>16} Off ", f"{ecc:>20} "),
        _three(left, memory, f"{gpu['utilization.gpu'] + '%':>7}{'Default':>13} "),
        _three("", "", f"{mig:>20} "),
        SPLIT,
    ]


def table(head: Row, gpus: list[Row], apps: list[Row]) -> list[str]:
    """The default output, 91 columns."""
    driver = head.get("driver_version", "N/A")
    cuda = head.get("cuda_version", "N/A")
    versions = f" NVIDIA-SMI {driver:<22} Driver Version: {driver:<14} CUDA Version: {cuda:<8} "
    lines = [
        time.strftime("%a %b %e %H:%M:%S %Y"),
        EDGE,
        f"|{versions:<89}|",
        SPLIT,
        _three(" GPU  Name                 Persistence-M", " Bus-Id          Disp.A ", " Volatile Uncorr. ECC "),
        _three(" Fan  Temp   Perf          Pwr:Usage/Cap", "           Memory-Usage ", " GPU-Util  Compute M. "),
        _three("", "", "               MIG M. "),
        "|" + "=" * 41 + "+" + "=" * 24 + "+" + "=" * 22 + "|",
    ]
    for gpu in gpus:
        lines += _gpu_lines(gpu)
    lines += [
        " " * 91,
        EDGE,
        f"|{' Processes:':<89}|",
        f"|{'  GPU   GI   CI              PID   Type   Process name                        GPU Memory':<89}|",
        f"|{'        ID   ID                                                               Usage':<89}|",
        "|" + "=" * 89 + "|",
    ]
    if not apps:
        lines.append(f"|{'  No running processes found':<89}|")
    for app in apps:
        name = app["process_name"]
        name = name if len(name) <= 36 else "..." + name[-33:]
        used = app["used_gpu_memory"] + "MiB"
        row = f" {app['index']:>4}   N/A  N/A    {app['pid']:>12}      C   {name:<36}{used:>10} "
        lines.append(f"|{row:<89}|")
    return [*lines, EDGE]


def chosen(options: Options, gpus: list[Row]) -> list[Row]:
    """The GPUs that -i names, or all. Raises Stop."""
    if not options.ids:
        return gpus
    found = [g for g in gpus if {g["index"], g["uuid"], g["pci.bus_id"]} & set(options.ids)]
    if not found:
        raise Stop(NOT_FOUND, "No devices were found")
    return found


def look(options: Options, *, header: bool) -> list[str]:
    """One reading as lines. Raises Stop."""
    head, gpus, apps = read_state()
    check_fault(head, gpus)
    gpus = chosen(options, gpus)
    apps = [app for app in apps if app["index"] in {gpu["index"] for gpu in gpus}]
    header = header and "noheader" not in options.formats
    if options.gpu_fields:
        return query_gpus(options, head, gpus, header=header)
    if options.app_fields:
        return query_apps(options, gpus, apps, header=header)
    if options.lists:
        return [f"GPU {gpu['index']}: {gpu['name']} (UUID: {gpu['uuid']})" for gpu in gpus]
    return table(head, gpus, apps)


def main(arguments: list[str]) -> int:
    """nvidia-smi's exit status."""
    try:
        options = parse(arguments)
        header = True
        while True:
            lines = look(options, header=header)
            if lines:
                sys.stdout.write("\n".join(lines) + "\n")
                sys.stdout.flush()
            if not options.every_s:
                return 0
            header = False
            time.sleep(options.every_s)
    except Stop as stop:
        sys.stdout.write(stop.text + "\n")
        sys.stdout.flush()
        return stop.code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `nvidia-smi -l 1 | head`: nothing may be flushed into the closed pipe at exit
        from os import _exit

        _exit(BROKEN_PIPE)
